"""The matrix: which runs are made, in which order, with which settings, and what is never done twice."""

import fcntl
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from gasp_rl.compare import Arm, Cell, Standing, arms, chosen, compare, terms_of
from gasp_rl.config import BudgetConfig, CompareConfig, Matched, ModelConfig, ProblemsConfig, RunConfig
from gasp_rl.errors import ConfigError, InputError
from gasp_rl.problem import Problem
from gasp_rl.progress import Observer, Silent
from gasp_rl.recipes import ARMS, RECIPES, micro_comparison, paper_comparison
from gasp_rl.rollout import Iteration
from gasp_rl.runs.arms import SCHEMA, ArmResult, Chosen, Point, Score, Terms, read_comparison, result_path
from gasp_rl.runs.directory import RunDirectory

CFG = replace(micro_comparison(), seeds=2)


def named(*names: str, cfg: CompareConfig = CFG) -> tuple[Arm, ...]:
    return arms({name: RECIPES[f"micro-{name}"]() for name in names}, cfg)


@dataclass
class Bench:
    """Stands for the runs, and remembers them."""

    ran: list[tuple[str, int]] = field(default_factory=list)
    standings: list[Standing] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    stop_after: int = 99

    def run(
        self, cell: Cell, cfg: CompareConfig, terms: Terms, test: Sequence[Problem], run: RunDirectory, seen: Observer
    ) -> ArmResult:
        if len(self.ran) == self.stop_after:
            raise KeyboardInterrupt
        self.ran.append((cell.arm.name, cell.seed))
        score = (Score("a", 20, 1, 1),)
        return ArmResult(
            SCHEMA, cell.arm.name, cell.seed, terms, cell.config, "0", "", "", 1, (Point(1, 9, 1.0, score, score),),
            (Chosen(1, cfg.ks, score),), (), 9, 1.0, 99, seconds=10.0 * len(cell.arm.name),
        )  # fmt: skip

    @contextmanager
    def view(self, standing: Standing) -> Iterator[Observer]:
        self.standings.append(standing)
        yield Silent()

    def compare(self, compared: Sequence[Arm], out: Path, cfg: CompareConfig = CFG) -> list[tuple[str, int]]:
        results = compare(compared, cfg, out, self.view, lambda result: self.told.append(result.arm), run=self.run)
        return [(result.arm, result.seed) for result in results]


def test_seeds_come_before_arms_so_that_a_comparison_cut_short_has_all_arms(tmp_path: Path) -> None:
    bench = Bench()

    assert bench.compare(named("gasp", "azr"), tmp_path) == [("azr", 1), ("azr", 2), ("gasp", 1), ("gasp", 2)]
    assert bench.ran == [("gasp", 1), ("azr", 1), ("gasp", 2), ("azr", 2)]
    assert bench.told == ["gasp", "azr", "gasp", "azr"]


def test_what_is_finished_is_not_run_again_whoever_asks_and_more_can_be_asked_for(tmp_path: Path) -> None:
    first = Bench(stop_after=3)
    with pytest.raises(KeyboardInterrupt):
        first.compare(named("gasp", "azr"), tmp_path)
    second = Bench()

    second.compare(named("rlvr", "gasp", "azr"), tmp_path, replace(CFG, seeds=3))

    assert first.ran == [("gasp", 1), ("azr", 1), ("gasp", 2)]
    assert second.ran == [("rlvr", 1), ("rlvr", 2), ("azr", 2), ("rlvr", 3), ("gasp", 3), ("azr", 3)]


def test_the_time_that_is_left_is_what_each_arm_took_so_far(tmp_path: Path) -> None:
    bench = Bench()

    bench.compare(named("gasp", "azr"), tmp_path)

    assert [(standing.done, standing.of) for standing in bench.standings] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert [standing.seconds_left for standing in bench.standings] == [None, 120.0, 70.0, 30.0]


def test_a_run_that_another_process_has_taken_is_left_to_it(tmp_path: Path) -> None:
    bench = Bench()
    (tmp_path / "runs").mkdir()
    with (tmp_path / "runs" / "azr-seed1.lock").open("w") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)

        assert bench.compare(named("gasp", "azr"), tmp_path) == [("azr", 2), ("gasp", 1), ("gasp", 2)]

    assert bench.compare(named("gasp", "azr"), tmp_path) == [("azr", 1), ("azr", 2), ("gasp", 1), ("gasp", 2)]
    assert len(bench.ran) == 4


def test_nothing_is_run_beside_results_on_other_terms(tmp_path: Path) -> None:
    bench = Bench()
    bench.compare(named("gasp"), tmp_path)

    with pytest.raises(InputError, match=r"what is asked for now cannot be compared with gasp of seed 1.*budget: 4"):
        bench.compare(named("azr"), tmp_path, replace(CFG, budget=9.0))
    assert len(bench.ran) == 2


def test_a_recipe_that_has_changed_since_is_refused_and_another_number_of_threads_is_not(tmp_path: Path) -> None:
    bench = Bench()
    bench.compare(named("gasp"), tmp_path)
    (gasp,) = named("gasp", cfg=replace(CFG, model=replace(CFG.model, threads=7)))

    bench.compare([gasp], tmp_path)
    assert len(bench.ran) == 2
    assert gasp.config.gasp
    changed = replace(gasp, config=replace(gasp.config, gasp=replace(gasp.config.gasp, tries=11)))
    with pytest.raises(ConfigError, match=r"gasp-seed1.arm.json was run with other settings.*gasp.tries: 10 -> 11"):
        bench.compare([changed], tmp_path)


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_has_the_shared_settings_and_keeps_what_makes_it_one(name: str) -> None:
    recipe = RECIPES[name]()
    cfg = replace(paper_comparison(), budget=5000.0, model=ModelConfig(path="mine", prompts="chat"))
    (arm,) = arms({name: recipe}, cfg)

    assert (arm.config.model.path, arm.config.budget) == ("mine", BudgetConfig(training_tokens=5000))
    assert (arm.config.gasp, arm.config.azr, arm.config.rlvr) == (recipe.gasp, recipe.azr, recipe.rlvr)
    assert arm.config.learn == recipe.learn
    assert not arm.config.matched_draws
    assert arm.config.checkpoint.best == (1, 20)


def test_the_untrained_model_is_drawn_from_as_often_as_all_evaluations_of_the_others_together() -> None:
    trained, untrained = named("gasp", "untrained")

    evaluate = trained.config.evaluate
    assert (evaluate.times, evaluate.samples, evaluate.at_start) == (5, 20, False)
    evaluate = untrained.config.evaluate
    assert (untrained.config.steps, evaluate.samples, evaluate.at_start) == (0, 100, True)


def test_arms_can_be_matched_by_seconds_of_training() -> None:
    (arm,) = named("gasp", cfg=replace(CFG, match=Matched.SECONDS, budget=12.5))

    assert arm.config.budget == BudgetConfig(training_seconds=12.5)


def point(step: int, *passes: int) -> Point:
    scores = tuple(Score(str(place), 20, n, n) for place, n in enumerate(passes))
    return Point(step, 10 * step, 1.0, scores, ())


def test_validation_chooses_for_each_k_and_of_equals_the_earliest() -> None:
    specialist, generalist, again = point(1, 20, 0, 0), point(2, 8, 8, 8), point(3, 8, 8, 8)

    assert chosen([specialist, generalist, again], (1,)) == {2: (1,)}
    assert chosen([specialist, generalist, again], (1, 20)) == {2: (1, 20)}
    assert chosen([point(1, 20, 0, 0), point(2, 1, 1, 1)], (1, 20)) == {1: (1,), 2: (20,)}


def test_terms_are_of_all_problems_whether_an_arm_uses_them_or_not() -> None:
    terms = terms_of(CFG, ())

    fewer = terms_of(replace(CFG, problems=ProblemsConfig(max_goalposts=5), validation_problems=5), ())
    assert terms.train == fewer.train
    assert terms.model == fewer.model
    assert len({terms.goalposts, fewer.goalposts, terms.validation, fewer.validation}) == 4


SMALL = replace(
    CFG, seeds=1, budget=9000.0, evaluations=2, samples=4, ks=(1, 4), test_samples=4, validation_problems=6,
    problems=ProblemsConfig(max_goalposts=4),
)  # fmt: skip


class Impatient(Silent):
    """Presses Ctrl-C when so many iterations are over."""

    def __init__(self, patience: int) -> None:
        self.left = patience

    def iterated(self, iteration: Iteration) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def made(out: Path, *names: str, patience: Iterator[int] | None = None) -> list[ArmResult]:
    """What arms leave behind, but for times and machine."""
    small = [replace(arm, config=_small(arm)) for arm in named(*names, cfg=SMALL)]

    @contextmanager
    def view(_: Standing) -> Iterator[Observer]:
        yield Impatient(next(patience) if patience else 0)

    compare(small, SMALL, out, view, lambda _: None)
    return [
        msgspec.structs.replace(
            result, seconds=0.0, training_seconds=0.0, machine="", commit="",
            points=tuple(msgspec.structs.replace(point, seconds=0.0) for point in result.points),
        )
        for result in read_comparison(out)
    ]  # fmt: skip


def _small(arm: Arm) -> RunConfig:
    config = arm.config
    guided = config.gasp and replace(config.gasp, goalposts_per_step=4, min_programs=16)
    free = config.azr and replace(config.azr, proposals_per_kind=8, answers_per_kind=8, seeds=8)
    return replace(config, gasp=guided, azr=free)


@pytest.mark.slow
def test_real_arms_spend_the_same_are_looked_at_alike_and_an_interrupted_one_ends_as_if_it_were_not(
    tmp_path: Path,
) -> None:
    straight = made(tmp_path / "straight", "gasp", "azr", "untrained")
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "cut", "gasp", patience=itertools.repeat(2))
    assert read_comparison(tmp_path / "cut") == ()

    assert made(tmp_path / "cut", "gasp") == [result for result in straight if result.arm == "gasp"]
    azr, gasp, untrained = read_comparison(tmp_path / "straight")
    for trained in (azr, gasp):
        assert 9000 <= trained.training_tokens < 9000 + 3000
        assert len(trained.points) == 2
        assert trained.draws == untrained.draws == 8
        assert {k for tested in trained.tested for k in tested.ks} == {1, 4}
        assert {len(tested.scores) for tested in trained.tested} == {150}
        assert trained.tokens > trained.training_tokens
        assert trained.seconds > trained.training_seconds > 0
    assert untrained.training_tokens == 0
    assert [(tested.step, tested.ks) for tested in untrained.tested] == [(0, (1, 4))]
    assert result_path(tmp_path / "straight", "gasp", 1).stat().st_size < 30_000
