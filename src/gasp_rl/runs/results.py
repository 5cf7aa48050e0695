"""What an evaluation leaves on disk: one JSON file with the numbers and everything needed to take them again."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from gasp_rl.config import GradingConfig, SamplingConfig
from gasp_rl.errors import InputError
from gasp_rl.rollout import Evaluation
from gasp_rl.runs.whole import write_whole

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Which model was asked."""

    path: str
    """As it was named."""
    weights: str
    """Where the weights are: a directory, a GGUF file, a hub name, `micro`; or the URL of an endpoint."""
    digest: str = ""
    """SHA-256 of the weights; empty for an endpoint, which does not show them."""
    dtype: str = ""
    """Of the arithmetic that sampled; empty for an endpoint."""
    step: int = 0
    """Iterations trained, for a checkpoint of a run."""


@dataclass(frozen=True, slots=True)
class PromptFacts:
    name: str
    digest: str
    """Its version: of templates, and of the code that reads replies."""


@dataclass(frozen=True, slots=True)
class ProblemFacts:
    """What numbers are broken down by."""

    id: str
    difficulty: str = ""
    date: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class ProblemsFacts:
    """Which problems were asked."""

    name: str
    """A file, or `micro`."""
    split: str
    digest: str
    """SHA-256 of all that decides how they are asked and judged."""
    problems: tuple[ProblemFacts, ...]
    since: str = ""
    """Only those of this date or later; empty: all."""
    until: str = ""
    """Only those before this date; empty: all."""


@dataclass(frozen=True, slots=True)
class Rate:
    """pass@k, and where it may lie for all problems like these."""

    k: int
    mean: float
    low: float
    high: float
    problems: int
    """With k samples or more: those that the mean is taken over."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """Numbers of all problems, or of those that share a difficulty, a month or a window."""

    by: str
    """all, difficulty, month, window"""
    name: str
    problems: int
    solved: int
    """Confirmed in a fresh sandbox."""
    rates: tuple[Rate, ...]
    greedy: Rate | None = None
    """pass@1 of the one most likely answer."""


class Results(msgspec.Struct, frozen=True):
    """An evaluation."""

    schema: int
    package: str
    """Version of gasp-rl."""
    model: ModelFacts
    prompts: PromptFacts
    problems: ProblemsFacts
    sampling: SamplingConfig
    samples: int
    """Draws per problem."""
    seed: int
    grading: GradingConfig
    isolation: str
    """What the sandbox enforced at least."""
    level: float
    """Of the intervals."""
    strata: tuple[Stratum, ...]
    drawn: Evaluation | None
    """Per problem, at the temperature of `sampling`; None where only the greedy answer was asked for."""
    greedy: Evaluation | None
    """Per problem, one answer at temperature 0; None where it was not asked for."""


def write_results(path: Path, results: Results) -> None:
    write_whole(path, msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def read_results(path: Path) -> Results:
    """Results written by `write_results`; InputError says what else it is."""
    try:
        results = msgspec.json.decode(path.read_bytes(), type=Results, strict=False)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise InputError(f"{path} holds no results of gasp evaluate: {error}") from error
    if results.schema > SCHEMA:
        raise InputError(f"{path} has schema {results.schema}, this gasp-rl reads {SCHEMA}: use a newer one")
    return results
