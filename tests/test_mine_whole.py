"""The whole search with the embedded model: runs are trained, interrupted in the middle, and gone on with."""

from dataclasses import replace
from pathlib import Path

import pytest

from gasp_rl.mine import Search, mine, paper_filters
from gasp_rl.problems.jsonl import read_problems
from gasp_rl.progress import Silent
from gasp_rl.recipes import azr, filtering, micro, rlvr
from gasp_rl.runs.evidence import Drawn, read_evidence

pytestmark = pytest.mark.slow


class StoppedError(Exception):
    pass


class StopsAtIteration(Silent):
    """Like a machine that goes down while a filter trains."""

    def __init__(self, iterations: int) -> None:
        self._left = iterations

    def iteration(self, step: int, steps: int) -> None:
        self._left -= 1
        if not self._left:
            raise StoppedError


def search(candidates: Path) -> Search:
    real, free = micro(rlvr()), micro(azr())
    assert real.rlvr is not None
    assert free.azr is not None
    real = replace(real, steps=2, rlvr=replace(real.rlvr, problems_per_step=4, group_size=2))
    free = replace(free, steps=1, azr=replace(free.azr, proposals_per_kind=3, answers_per_kind=3, seeds=6, tries=2))
    real, free = (
        filtering(replace(config, evaluate=replace(config.evaluate, samples=6, ks=(1,)))) for config in (real, free)
    )
    real, free = (replace(config, evaluate=replace(config.evaluate, samples=6)) for config in (real, free))
    return Search(candidates, paper_filters(real, free, (0,)))


def test_the_papers_filters_find_goalposts_and_go_on_after_a_crash_in_training(tmp_path: Path) -> None:
    data = Path("src/gasp_rl/data/microcode")
    candidates = tmp_path / "candidates.jsonl"
    lines = [(data / f"{name}.jsonl").read_bytes().splitlines(keepends=True)[:5] for name in ("candidates", "train")]
    candidates.write_bytes(b"".join(lines[0] + lines[1]))

    straight = mine(search(candidates), tmp_path / "straight", Silent())
    with pytest.raises(StoppedError):
        mine(search(candidates), tmp_path / "again", StopsAtIteration(2))
    again = mine(search(candidates), tmp_path / "again", Silent())

    assert [one.name for one in straight.filters] == ["0-untrained", "1-rlvr-seed0", "2-azr", "3-rlvr-on-the-rest"]
    assert [one.versions for one in straight.filters] == [1, 2, 1, 2]
    assert straight.filters == again.filters
    assert read_problems(tmp_path / "again" / "goalposts.jsonl").problems == straight.goalposts
    assert {problem.id for problem in straight.goalposts} >= {"micro/goalposts/000", "micro/goalposts/003"}
    assert straight.filters[0].solved
    seeds = [[one.seed for one in read_evidence(tmp_path / name / "evidence.jsonl") if isinstance(one, Drawn)]
             for name in ("straight", "again")]  # fmt: skip
    assert seeds[0] == seeds[1]
