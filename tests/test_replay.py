"""An iteration made again from the journal alone comes out bit for bit; with other code, what that code changes is said."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gasp_rl.build import resume_run, run_recipe
from gasp_rl.config import EvaluateConfig, LearnConfig, RunConfig
from gasp_rl.errors import ConfigError, RunError
from gasp_rl.progress import Silent
from gasp_rl.recipes import azr, gasp, micro, random_reward, rlvr
from gasp_rl.replay import replay
from gasp_rl.runs.directory import RunDirectory, encode_config
from gasp_rl.runs.journal import IterationRecord, JournalWriter, read_journal, read_whole

pytestmark = pytest.mark.slow

STEPS = 3


def guided() -> RunConfig:
    recipe = short(micro(gasp()))
    assert recipe.gasp is not None
    sized = replace(recipe.gasp, goalposts_per_step=6, tries=5, practice_per_step=8)
    return replace(recipe, gasp=sized, problems=replace(recipe.problems, max_goalposts=6))


def unguided() -> RunConfig:
    recipe = short(micro(azr()))
    assert recipe.azr is not None
    return replace(recipe, azr=replace(recipe.azr, proposals_per_kind=6, answers_per_kind=6, seeds=6, tries=3))


def real() -> RunConfig:
    recipe = short(micro(rlvr()))
    assert recipe.rlvr is not None
    return replace(recipe, rlvr=replace(recipe.rlvr, problems_per_step=4, group_size=4))


def by_coin() -> RunConfig:
    recipe = short(micro(random_reward()))
    assert recipe.rlvr is not None
    return replace(recipe, rlvr=replace(recipe.rlvr, problems_per_step=4, group_size=4))


def short(recipe: RunConfig) -> RunConfig:
    return replace(
        recipe,
        steps=STEPS,
        problems=replace(recipe.problems, max_goalposts=2),
        learn=replace(recipe.learn, lr=1e-4),
        evaluate=EvaluateConfig(every=STEPS, at_start=False, samples=1, ks=(1,), validation_problems=1),
        matched_draws=False,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return run_recipe(guided(), tmp_path_factory.mktemp("runs") / "run", Silent())


def test_guided_play_comes_out_bit_for_bit(run: RunDirectory) -> None:
    replayed = list(replay(run.root))

    assert [(one.recorded.step, one.differences, one.unknown) for one in replayed] == [(s, (), 0) for s in (1, 2, 3)]
    assert any(one.recorded.accepted for one in replayed)  # or little was made again
    assert all(phase.update.advantages for one in replayed for phase in one.recorded.phases if phase.update)


@pytest.mark.parametrize("recipe", [unguided, real, by_coin])
def test_the_other_arms_come_out_bit_for_bit(tmp_path: Path, recipe: Callable[[], RunConfig]) -> None:
    made = run_recipe(recipe(), tmp_path / "run", Silent())

    assert [one.differences for one in replay(made.root)] == [(), (), ()]


def test_a_single_iteration_begins_from_what_the_journal_says_was_there(run: RunDirectory) -> None:
    [third] = replay(run.root, step=3)

    assert (third.recorded.step, third.differences) == (3, ())


def test_what_is_recorded_and_not_so_is_named(run: RunDirectory, tmp_path: Path) -> None:
    """A journal whose checksums fit, but where one reward of the second iteration is not what the code gives."""
    forged = tmp_path / "forged"
    shutil.copytree(run.root, forged)
    (forged / "journal.jsonl").unlink()
    with JournalWriter(forged / "journal.jsonl") as journal:
        for record in read_whole(run.journal):
            if isinstance(record, IterationRecord) and record.iteration.step == 2:
                journal.append(with_another_reward(record))
            else:
                journal.append(record)

    replayed = list(replay(forged))

    assert [len(one.differences) for one in replayed] == [0, 1, 0]
    [difference] = replayed[1].differences
    assert (difference.place, difference.before) == ("lemma.proposals.0.reward", 0.125)


def with_another_reward(record: IterationRecord) -> IterationRecord:
    lemma, *rest = record.iteration.phases
    first, *others = lemma.proposals
    changed = replace(lemma, proposals=(replace(first, reward=0.125), *others))
    return IterationRecord(replace(record.iteration, phases=(changed, *rest)), record.draws)


def test_another_version_of_the_code_shows_what_it_changes(run: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree("src/gasp_rl", tmp_path / "gasp_rl", ignore=shutil.ignore_patterns("__pycache__"))
    changed = tmp_path / "gasp_rl" / "learn" / "advantages.py"
    source = changed.read_text()
    assert source.count("WHITEN_EPS = 1e-8") == 1
    changed.write_text(source.replace("WHITEN_EPS = 1e-8", "WHITEN_EPS = 1e-2"))

    again = subprocess.run(
        [sys.executable, "-m", "gasp_rl.cli", "replay", str(run.root), "--step", "2", "--show", "1"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert again.returncode == 2
    assert "    lemma.update.advantages.0.0: " in again.stdout
    assert again.stderr == "gasp: 1 of 1 iteration came out differently, the first is 2\n"


def test_a_question_that_was_never_asked_has_no_answer_and_is_counted(run: RunDirectory, tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    shutil.copytree(run.root, lost)
    (lost / "journal.jsonl").unlink()
    with JournalWriter(lost / "journal.jsonl") as journal:
        for record in read_whole(run.journal):
            journal.append(
                IterationRecord(record.iteration, record.draws[:-1]) if isinstance(record, IterationRecord) else record
            )

    replayed = list(replay(lost))

    assert [one.unknown for one in replayed] == [1, 1, 1]
    assert all(one.differences for one in replayed)


def test_problems_that_changed_are_refused(tmp_path: Path) -> None:
    goalposts = tmp_path / "goalposts.jsonl"
    source = Path("src/gasp_rl/data/microcode/goalposts.jsonl").read_text().splitlines(keepends=True)
    goalposts.write_text("".join(source[:6]))
    config = replace(guided(), steps=1, problems=replace(guided().problems, goalposts=str(goalposts)))
    made = run_recipe(config, tmp_path / "run", Silent())
    goalposts.write_text("".join(source[1:7]))

    with pytest.raises(ConfigError, match=r"problems\.goalposts is no longer what the run had"):
        list(replay(made.root))


def test_an_iteration_that_is_not_there_is_a_fault(run: RunDirectory) -> None:
    with pytest.raises(RunError, match="has no iteration 7, it has 3"):
        list(replay(run.root, step=7))


def test_a_run_that_went_on_with_other_settings_is_made_again_with_them(tmp_path: Path) -> None:
    class Ends(Silent):
        def iteration(self, step: int, steps: int) -> None:
            if step == 2:
                raise KeyboardInterrupt

    root = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_recipe(guided(), root, Ends())
    (root / "config.json").write_bytes(encode_config(replace(guided(), learn=LearnConfig(lr=2e-4, advantages="rloo"))))

    made = resume_run(root, Silent(), allow_changes=True)

    journal = read_journal(made.journal)
    assert journal.started
    assert journal.started.config.learn.advantages == "rloo"
    assert [iteration.step for iteration in journal.iterations] == [1, 2, 3]
    assert [one.differences for one in replay(root)] == [(), (), ()]
