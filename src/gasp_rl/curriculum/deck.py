"""Which goalposts come next: uniformly, without replacement within an epoch (the paper leaves the rule open; this is ours)."""

from collections.abc import Sequence

from gasp_rl.errors import ConfigError
from gasp_rl.problem import Problem
from gasp_rl.streams import stream


class GoalpostDeck:
    """An endless shuffled deck. Its whole state is `drawn`: epoch e is the permutation of substream e."""

    def __init__(self, goalposts: Sequence[Problem], seed: int, drawn: int = 0) -> None:
        if not goalposts:
            raise ConfigError(
                "no goalposts: problems.goalposts names a set without problems; run `gasp mine` or name another file"
            )
        self.goalposts = tuple(goalposts)
        self.drawn = drawn
        self._seed = seed

    def draw(self, n: int) -> list[Problem]:
        cards = [self._card(self.drawn + i) for i in range(n)]
        self.drawn += n
        return cards

    def _card(self, position: int) -> Problem:
        epoch, place = divmod(position, len(self.goalposts))
        order = list(range(len(self.goalposts)))
        stream(self._seed, "goalposts", epoch).shuffle(order)
        return self.goalposts[order[place]]
