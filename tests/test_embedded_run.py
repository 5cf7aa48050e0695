"""The embedded model plays the whole game: proposals are accepted, and nothing of it depends on time."""

import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gasp_rl.build import Sandboxes, run_recipe
from gasp_rl.config import EvaluateConfig, LearnConfig, RunConfig, SandboxConfig
from gasp_rl.progress import Silent
from gasp_rl.recipes import RECIPES, azr, gasp, micro, rlvr
from gasp_rl.runs.journal import Finished, Journal, read_journal
from gasp_rl.sandbox.base import Execution, Job
from gasp_rl.sandbox.local import LocalSandbox
from gasp_rl.sandbox.remote import open_sandbox

pytestmark = pytest.mark.slow


class Late:
    """A sandbox that answers late, at random times and in a random order."""

    def __init__(self, config: SandboxConfig) -> None:
        self._inner = LocalSandbox(config)
        self._rng = random.Random()  # truly at random: that is the point

    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Execution]]:
        held: list[tuple[int, Execution]] = []
        for done in self._inner.execute(jobs):
            held.append(done)
            while held and self._rng.random() < 0.5:
                time.sleep(self._rng.random() / 500)
                yield held.pop(self._rng.randrange(len(held)))
        while held:
            yield held.pop(self._rng.randrange(len(held)))

    def close(self) -> None:
        self._inner.close()


def small(recipe: RunConfig) -> RunConfig:
    return replace(
        recipe,
        steps=min(recipe.steps, 2),
        matched_draws=False,
        problems=replace(recipe.problems, max_goalposts=8),
        learn=LearnConfig(lr=1e-4),
        evaluate=EvaluateConfig(every=2, at_start=False, samples=4, temperature=1.0, ks=(1, 4), validation_problems=6),
    )


def guided() -> RunConfig:
    recipe = small(micro(gasp()))
    assert recipe.gasp is not None
    return replace(
        recipe, gasp=replace(recipe.gasp, goalposts_per_step=8, tries_per_round=4, tries=6, practice_per_step=12)
    )


def run(config: RunConfig, out: Path, sandboxes: Sandboxes = open_sandbox) -> Path:
    return run_recipe(config, out, Silent(), sandboxes).journal


def test_when_the_sandbox_answers_changes_no_byte_of_the_journal(tmp_path: Path) -> None:
    on_time = run(guided(), tmp_path / "on-time")
    late = run(guided(), tmp_path / "late", Late)

    assert on_time.read_bytes() == late.read_bytes()
    accepted = [p for iteration in read_journal(on_time).iterations for p in iteration.accepted]
    assert accepted  # or the test would compare little
    updates = [phase.update for iteration in read_journal(on_time).iterations for phase in iteration.phases]
    assert sum(update is not None and not update.skipped for update in updates) >= 3


def read(config: RunConfig, out: Path) -> Journal:
    return read_journal(run(config, out))


def test_unguided_play_runs_on_the_same_engine(tmp_path: Path) -> None:
    recipe = small(micro(azr()))
    assert recipe.azr is not None
    sized = replace(recipe.azr, proposals_per_kind=8, answers_per_kind=8, seeds=8, tries=4)

    journal = read(replace(recipe, azr=sized), tmp_path / "azr")

    names = [phase.name for phase in journal.iterations[1].phases]
    assert names == ["abduction", "deduction", "induction", "joint update"]
    assert any(p.tries and p.reward > 0 for p in journal.iterations[0].accepted)


def test_rl_on_real_problems_runs_on_the_same_engine(tmp_path: Path) -> None:
    recipe = small(micro(rlvr()))
    assert recipe.rlvr is not None

    journal = read(replace(recipe, rlvr=replace(recipe.rlvr, problems_per_step=6, group_size=4)), tmp_path / "rlvr")

    answers = journal.iterations[0].phases[0].answers
    assert len(answers) == 24
    assert {answer.reward for answer in answers} == {0.0, 1.0}


NEW = [name for name in RECIPES if name.startswith("micro-") and name not in {"micro-gasp", "micro-azr", "micro-rlvr"}]


@pytest.mark.parametrize("name", NEW)
def test_every_arm_runs_on_the_same_engine(name: str, tmp_path: Path) -> None:
    recipe = small(RECIPES[name]())
    recipe = replace(
        recipe,
        gasp=recipe.gasp and replace(recipe.gasp, goalposts_per_step=2, tries=4, practice_per_step=4),
        azr=recipe.azr and replace(recipe.azr, proposals_per_kind=6, answers_per_kind=6, seeds=6, tries=3),
        rlvr=recipe.rlvr and replace(recipe.rlvr, problems_per_step=4, group_size=4),
        problems=replace(recipe.problems, max_goalposts=2),
        evaluate=replace(recipe.evaluate, at_start=not recipe.steps, samples=1, ks=(1,), validation_problems=1),
    )

    journal = read(recipe, tmp_path / "run")

    assert journal.ending == Finished()
    assert len(journal.iterations) == recipe.steps
    assert {evaluation.step for evaluation in journal.evaluations} == {recipe.steps}
    updates = [phase.update for iteration in journal.iterations for phase in iteration.phases]
    assert sum(update is not None and not update.skipped for update in updates) >= recipe.steps


def test_no_model_written_text_is_lost_from_the_journal(tmp_path: Path) -> None:
    journal = read(guided(), tmp_path / "run")

    for iteration in journal.iterations:
        for phase in iteration.phases:
            assert all(p.text and (p.accepted or p.detail) for p in phase.proposals)
            assert all(answer.text for answer in phase.answers)
