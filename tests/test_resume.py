"""A run that is ended at any instant and resumed ends with the bytes of one that was left alone."""

import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gasp_rl.build import _changes, resume_run, run_recipe
from gasp_rl.config import Alarm, BudgetConfig, CheckpointConfig, EvaluateConfig, HealthConfig, LearnConfig, RunConfig
from gasp_rl.errors import ConfigError, RunError
from gasp_rl.progress import Silent
from gasp_rl.recipes import azr, gasp, micro, rlvr
from gasp_rl.replay import replay
from gasp_rl.runs.checkpoint import checkpoints
from gasp_rl.runs.directory import RunDirectory, encode_config
from gasp_rl.runs.journal import Course, Decided, Finished, Started, Stopped, read_journal
from gasp_rl.runs.store import read_store

pytestmark = pytest.mark.slow


def small(recipe: RunConfig) -> RunConfig:
    return replace(
        recipe,
        steps=3,
        problems=replace(recipe.problems, max_goalposts=6),
        learn=LearnConfig(lr=1e-4),
        evaluate=EvaluateConfig(every=2, samples=2, temperature=1.0, ks=(1, 2), validation_problems=4),
        checkpoint=CheckpointConfig(keep=1),
    )


def guided() -> RunConfig:
    recipe = small(micro(gasp()))
    assert recipe.gasp is not None
    sized = replace(recipe.gasp, goalposts_per_step=6, tries=5, practice_per_step=8, buffer_capacity=5)
    return replace(recipe, gasp=sized)


def unguided() -> RunConfig:
    recipe = small(micro(azr()))
    assert recipe.azr is not None
    return replace(recipe, azr=replace(recipe.azr, proposals_per_kind=6, answers_per_kind=6, seeds=6, tries=3))


def real() -> RunConfig:
    recipe = small(micro(rlvr()))
    assert recipe.rlvr is not None
    return replace(recipe, rlvr=replace(recipe.rlvr, problems_per_step=4, group_size=4))


class EndsAt(Silent):
    """Ctrl-C at the nth phase, or where an iteration begins."""

    def __init__(self, nth: int, step: int = 0) -> None:
        self.left = nth
        self.step = step
        self.notes: list[str] = []

    def iteration(self, step: int, steps: int) -> None:
        if step == self.step:
            raise KeyboardInterrupt

    def phase(self, name: str, detail: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


def never() -> EndsAt:
    return EndsAt(0)


def bytes_of(run: RunDirectory) -> tuple[bytes, bytes, list[str]]:
    with closing(read_store(run.store)) as store:
        return run.journal.read_bytes(), (run.model / "model.safetensors").read_bytes(), list(store.iterdump())


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return run_recipe(guided(), tmp_path_factory.mktemp("runs") / "straight", Silent())


def interrupted(config: RunConfig, out: Path, nth: int, step: int = 0) -> RunDirectory:
    with pytest.raises(KeyboardInterrupt):
        run_recipe(config, out, EndsAt(nth, step))
    run = RunDirectory(out)
    assert isinstance(read_journal(run.journal).ending, Stopped)
    return run


@pytest.mark.parametrize("nth", [1, 4, 7, 11, 15, 20, 26, 33])
def test_guided_play_goes_on_wherever_it_was_stopped(straight: RunDirectory, tmp_path: Path, nth: int) -> None:
    run = interrupted(guided(), tmp_path / "run", nth)

    resume_run(run.root, Silent())

    assert bytes_of(run) == bytes_of(straight)
    assert any(iteration.accepted for iteration in read_journal(run.journal).iterations[:2])  # or little was restored


@pytest.mark.parametrize("recipe", [unguided, real])
def test_the_other_arms_go_on_too(tmp_path: Path, recipe: Callable[[], RunConfig]) -> None:
    whole = run_recipe(recipe(), tmp_path / "whole", Silent())
    stops = sum(len(i.phases) for i in read_journal(whole.journal).iterations[:2]) + 2

    run = interrupted(recipe(), tmp_path / "run", stops)
    resume_run(run.root, Silent())

    assert bytes_of(run) == bytes_of(whole)


def overlapping() -> RunConfig:
    """Four iterations, of which the second and the last are evaluated and saved: the others run into the next."""
    config = real()
    learn = LearnConfig(lr=1e-4, truncate=2.0, overlap=True)
    return replace(config, steps=4, learn=learn, checkpoint=CheckpointConfig(every=2), matched_draws=False)


def test_a_run_whose_sampling_overlaps_learning_goes_on_too_and_its_samples_lag_one_update(tmp_path: Path) -> None:
    whole = run_recipe(overlapping(), tmp_path / "whole", Silent())
    iterations = read_journal(whole.journal).iterations
    updates = [phase.update for iteration in iterations for phase in iteration.phases if phase.update]

    assert [iteration.step for iteration in iterations] == [1, 2, 3, 4]
    assert [update.lag for update in updates] == [0, 1, 0, 1]
    assert all(math.isfinite(update.loss) for update in updates)
    assert not any(replayed.differences for replayed in replay(whole.root))

    for step in (2, 4):  # while an iteration is not in the journal yet
        run = interrupted(overlapping(), tmp_path / str(step), 0, step)
        resume_run(run.root, Silent())
        assert bytes_of(run) == bytes_of(whole)


def ends_early() -> RunConfig:
    """Its budget is spent after two of three iterations, when it would not be evaluated."""
    evaluate = replace(guided().evaluate, every=3)
    return replace(guided(), evaluate=evaluate, budget=BudgetConfig(training_tokens=3_000), matched_draws=False)


def changes_course() -> RunConfig:
    health = HealthConfig(patience=1, valid=Alarm(1.0, "switch"), dissimilarity=Alarm(1.0, "switch"))
    return replace(guided(), health=health, matched_draws=False)


def test_a_run_whose_budget_is_spent_is_evaluated_exported_and_finished_also_after_an_interruption(
    tmp_path: Path,
) -> None:
    whole, watcher = RunDirectory(tmp_path / "whole"), never()
    run_recipe(ends_early(), whole.root, watcher)
    journal = read_journal(whole.journal)

    run = interrupted(ends_early(), tmp_path / "run", -watcher.left - 1)  # after it was decided, before the checkpoint
    resume_run(run.root, Silent())

    reason = "the budget of 3,000 training tokens is spent"
    assert len(journal.iterations) == 2
    assert journal.decided == (Decided(2, Course.STOP, reason),)
    assert journal.ending == Finished(reason)
    assert {e.step for e in journal.evaluations} == {0, 2}
    assert whole.model.is_dir()
    assert bytes_of(run) == bytes_of(whole)


def test_a_run_whose_budget_is_spent_goes_on_when_it_gets_more(tmp_path: Path) -> None:
    config = replace(ends_early(), steps=2, budget=BudgetConfig(training_tokens=1))
    run = run_recipe(config, tmp_path / "run", Silent())
    run.config.write_bytes(encode_config(replace(config, budget=BudgetConfig())))

    with pytest.raises(
        ConfigError, match=r"is finished; .*; to go on, raise what ended it in config.json and add --allow"
    ):
        resume_run(run.root, Silent())
    resume_run(run.root, Silent(), allow_changes=True)

    journal = read_journal(run.journal)
    assert [i.step for i in journal.iterations] == [1, 2]
    assert journal.ending == Finished()


def test_a_run_that_changed_its_course_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = run_recipe(changes_course(), tmp_path / "whole", Silent())
    assert {d.course for d in read_journal(whole.journal).decided} == {Course.LENIENT, Course.MAPPING}
    assert not any(replayed.differences for replayed in replay(whole.root))

    run = interrupted(changes_course(), tmp_path / "run", 13)
    assert len(read_journal(run.journal).iterations) == 1
    resume_run(run.root, Silent())

    assert bytes_of(run) == bytes_of(whole)


def test_a_damaged_checkpoint_is_passed_over_and_said(straight: RunDirectory, tmp_path: Path) -> None:
    config = replace(guided(), checkpoint=CheckpointConfig(keep=3))
    whole = run_recipe(config, tmp_path / "whole", Silent())
    run = interrupted(config, tmp_path / "run", 0, step=3)
    newest = checkpoints(run.checkpoints)[0]
    weights = newest.path / "engine" / "weights-1-of-1.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    watcher = never()

    resume_run(run.root, watcher)

    assert (
        watcher.notes[0]
        == f"checkpoint {newest.path} is damaged (engine/weights-1-of-1.safetensors); looking for an earlier one"
    )
    assert watcher.notes[1] == f"going on after iteration {newest.seal.step - 1}"
    assert bytes_of(run) == bytes_of(whole)


def test_without_a_checkpoint_a_run_begins_again(straight: RunDirectory, tmp_path: Path) -> None:
    run = interrupted(guided(), tmp_path / "run", 0, step=3)
    shutil.rmtree(run.checkpoints)

    resume_run(run.root, Silent())

    assert bytes_of(run) == bytes_of(straight)


def test_a_finished_run_is_left_alone(straight: RunDirectory) -> None:
    before = bytes_of(straight)

    with pytest.raises(ConfigError, match="is finished"):
        resume_run(straight.root, Silent())

    assert bytes_of(straight) == before


def test_changed_settings_are_shown_and_refused(tmp_path: Path) -> None:
    run = interrupted(guided(), tmp_path / "run", 8)
    before = run.journal.read_bytes()
    run.config.write_bytes(encode_config(replace(guided(), learn=LearnConfig(lr=3e-4))))

    with pytest.raises(ConfigError, match=r"learn\.lr: 0\.0001 -> 0\.0003"):
        resume_run(run.root, Silent())

    assert run.journal.read_bytes() == before


def test_who_is_told_of_a_run_may_change() -> None:
    before = Started(guided(), "0.1")

    assert _changes(before, Started(replace(guided(), track=("tensorboard",)), "0.1")) == []
    assert len(_changes(before, Started(replace(guided(), seed=1, track=("tensorboard",)), "0.1"))) == 1


def test_other_problems_are_refused(tmp_path: Path) -> None:
    goalposts = tmp_path / "goalposts.jsonl"
    source = Path("src/gasp_rl/data/microcode/goalposts.jsonl").read_text().splitlines(keepends=True)
    goalposts.write_text("".join(source[:6]))
    config = replace(guided(), problems=replace(guided().problems, goalposts=str(goalposts)))
    run = interrupted(config, tmp_path / "run", 8)
    goalposts.write_text("".join(source[1:7]))

    with pytest.raises(ConfigError, match="the goalposts changed"):
        resume_run(run.root, Silent())


def test_a_full_disk_during_a_checkpoint_stops_loudly_and_costs_nothing(straight: RunDirectory, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    blocked = out / "checkpoints"

    class Blocks(Silent):
        def phase(self, name: str, detail: str = "") -> None:
            if name == "checkpoint" and not blocked.exists():
                blocked.write_text("in the way")

    with pytest.raises(RunError, match=f"cannot be written: .*; make room there, then go on with: gasp resume {out}"):
        run_recipe(guided(), out, Blocks())
    blocked.unlink()
    run = RunDirectory(out)
    assert len(read_journal(run.journal).iterations) == 1

    resume_run(out, Silent())

    assert bytes_of(run) == bytes_of(straight)


def test_a_run_that_is_ended_in_every_ugly_way_ends_as_if_it_had_not_been() -> None:
    ended = subprocess.run(
        [sys.executable, "bench/crash.py", "--points", "8"], check=False, capture_output=True, text=True
    )

    assert ended.returncode == 0, ended.stderr
    assert "8 points in" in ended.stdout
