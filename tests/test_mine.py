"""The filters: what is solved anywhere is out, and what is left is given on. The runs here are written by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from gasp_rl.config import AzrConfig, EvaluateConfig, RlvrConfig, RunConfig
from gasp_rl.errors import ConfigError
from gasp_rl.mine import Mined, mine
from gasp_rl.problem import Problem, TestCase
from gasp_rl.problems.jsonl import read_problems, write_problems
from gasp_rl.progress import Observer, Silent
from gasp_rl.rollout import Evaluation, ProblemScore
from gasp_rl.runs.directory import RunDirectory, create_run
from gasp_rl.runs.journal import EvaluationRecord, JournalWriter

EVALUATE = EvaluateConfig(every=5, samples=4, ks=(1, 4))
RLVR = RunConfig(recipe="rlvr", steps=10, rlvr=RlvrConfig(), evaluate=EVALUATE)
AZR = RunConfig(recipe="azr", steps=10, azr=AzrConfig(), evaluate=EVALUATE)


@dataclass
class Runs:
    """Runs that solve by name: `passes[where][problem]` of 4 samples pass at the last evaluation there."""

    passes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    judged: Mapping[str, int] = field(default_factory=dict)
    configs: dict[str, RunConfig] = field(default_factory=dict)
    given: dict[str, list[str]] = field(default_factory=dict)

    def __call__(self, config: RunConfig, out: Path, observer: Observer) -> RunDirectory:
        where = out.parent.name
        directory = create_run(out, config)
        problems = [problem.id for problem in read_problems(Path(config.problems.goalposts)).problems]
        self.configs[where], self.given[where] = config, problems
        with JournalWriter(directory.journal) as journal:
            for step in (0, 5, 10):
                passes = self.passes.get(where, {}) if step == 10 else {}
                scores = [ProblemScore(p, self.judged.get(p, 4), passes.get(p, 0), 0) for p in problems]
                journal.append(EvaluationRecord(Evaluation(step, "goalposts", 1.0, tuple(scores))))
        return directory


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    path = tmp_path / "candidates.jsonl"
    write_problems(path, [Problem(name, name, (TestCase("1", "1"),), (TestCase("2", "2"),)) for name in "abcdef"])
    return path


def mined(candidates: Path, runs: Runs, rlvr: RunConfig = RLVR) -> Mined:
    return mine(candidates, rlvr, AZR, (0, 1), candidates.parent / "out", Silent(), run_recipe=runs)


FALLEN = {"1-rlvr-seed0": {"a": 1}, "1-rlvr-seed1": {"b": 4}, "2-azr": {"c": 2}, "3-rlvr-on-the-rest": {"d": 1}}


def test_one_passing_sample_anywhere_is_out_and_what_is_left_is_given_on(candidates: Path) -> None:
    runs = Runs(FALLEN)

    found = mined(candidates, runs)

    assert [problem.id for problem in found.goalposts] == ["e", "f"]
    assert {where: "".join(given) for where, given in runs.given.items()} == {
        "0-untrained": "abcdef",
        "1-rlvr-seed0": "abcdef",
        "1-rlvr-seed1": "bcdef",
        "2-azr": "cdef",
        "3-rlvr-on-the-rest": "def",
    }
    assert [one.solved for one in found.filters] == [(), ("a",), ("b",), ("c",), ("d",)]


def test_what_was_found_and_how_is_written_down(candidates: Path) -> None:
    found = mined(candidates, Runs(FALLEN))

    out = candidates.parent / "out"
    assert read_problems(out / "goalposts.jsonl").problems == found.goalposts
    filters = msgspec.json.decode((out / "filters.json").read_bytes())
    assert [(one["name"], one["seed"], one["samples"], one["evaluations"], one["given"]) for one in filters] == [
        ("0-untrained", 0, 4, 3, 6),
        ("1-rlvr-seed0", 0, 4, 3, 6),
        ("1-rlvr-seed1", 1, 4, 3, 5),
        ("2-azr", 0, 4, 3, 4),
        ("3-rlvr-on-the-rest", 0, 4, 3, 3),
    ]


def test_only_the_last_filter_trains_on_what_is_left(candidates: Path) -> None:
    runs = Runs()

    mined(candidates, runs)

    trained_on = {where: config.problems.train for where, config in runs.configs.items()}
    last = trained_on.pop("3-rlvr-on-the-rest")
    assert set(trained_on.values()) == {RLVR.problems.train}
    assert Path(last).read_bytes() == candidates.read_bytes()


def test_the_untrained_model_is_asked_once_and_first(candidates: Path) -> None:
    runs = Runs()

    mined(candidates, runs)

    asked = [(config.steps, config.evaluate.at_start) for config in runs.configs.values()]
    assert asked == [(0, True), (10, False), (10, False), (10, False), (10, False)]


def test_quickly_only_the_untrained_model_is_asked(candidates: Path) -> None:
    runs = Runs({"0-untrained": {"a": 1}})

    found = mine(
        candidates, RLVR, AZR, (0,), candidates.parent / "out", Silent(), quick=True, run_recipe=runs
    )  # fmt: skip

    assert list(runs.configs) == ["0-untrained"]
    assert [problem.id for problem in found.goalposts] == ["b", "c", "d", "e", "f"]


def test_a_problem_that_was_not_asked_often_enough_is_no_goalpost(candidates: Path) -> None:
    found = mined(candidates, Runs(judged={"e": 0, "f": 3}))

    assert found.filters[0].unsure == ("e", "f")
    assert [problem.id for problem in found.goalposts] == ["a", "b", "c", "d"]


def test_the_number_of_candidates_can_be_limited(candidates: Path) -> None:
    found = mined(candidates, Runs(), replace(RLVR, problems=replace(RLVR.problems, max_goalposts=2)))

    assert [problem.id for problem in found.goalposts] == ["a", "b"]


def test_when_nothing_is_left_the_filters_end_and_say_what_they_solved(candidates: Path) -> None:
    found = mined(candidates, Runs({"1-rlvr-seed0": dict.fromkeys("abcdef", 1)}))

    assert found.goalposts == ()
    assert [(one.name, len(one.solved)) for one in found.filters] == [("0-untrained", 0), ("1-rlvr-seed0", 6)]


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_filters_need_seeds_that_differ(candidates: Path, seeds: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="seeds must be at least one, all different"):
        mine(candidates, RLVR, AZR, seeds, candidates.parent / "out", Silent(), run_recipe=Runs())


def test_a_filter_that_trains_nothing_is_refused(candidates: Path) -> None:
    with pytest.raises(ConfigError, match="rlvr: steps must be at least 1"):
        mined(candidates, Runs(), replace(RLVR, steps=0))
