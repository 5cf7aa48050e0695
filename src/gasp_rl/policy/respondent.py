"""Who answers prompts: a model in this process (`EnginePolicy`), or one behind an endpoint (`Endpoint`)."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from gasp_rl.policy.engine import SamplingParams
from gasp_rl.rollout import Completion, Prompt


class Respondent(Protocol):
    """All that an evaluation sees of a model."""

    @property
    def sampled_tokens(self) -> int:
        """Tokens of all completions that `sample` has yielded so far."""
        ...

    def sample(
        self, prompts: Sequence[Prompt], n: int, params: SamplingParams, seeds: Sequence[int]
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Yield (place of prompt, its n completions); a prompt that leaves the context no room gets none."""
        ...
