"""What a plan reads from an earlier run."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from gasp_rl.config import CheckpointConfig, EvaluateConfig, LoraConfig, RayConfig, RunConfig
from gasp_rl.errors import ConfigError, RunError
from gasp_rl.plan import amounts_of, arrangement_of, measured
from gasp_rl.recipes import demo
from gasp_rl.rollout import Evaluation, ProblemScore
from gasp_rl.runs.directory import create_run
from gasp_rl.runs.journal import EvaluationRecord, JournalWriter, Started
from gasp_rl.runs.metrics import Measurement
from gasp_rl.scaling import Amounts, Arrangement

LAPS = (
    Measurement(0, "evaluate", 30.0, sampling_seconds=20.0, tokens=600, prompts=4, rounds=2, longest=100, cores=4),
    Measurement(1, "lemma", 99.0, 100, sampling_seconds=50.0, update_seconds=40.0, cores=4),
    Measurement(1, "record", 9.0, cores=4),
    Measurement(2, "lemma", 10.0, 100, sampling_seconds=6.0, update_seconds=3.0, publish_seconds=1.0,
                sandbox_cpu_seconds=2.0, programs=8, rounds=2, prompts=10, longest=20, spread=3.0, learned_tokens=50, cores=4),
    Measurement(2, "record", 1.0, cores=4),
    Measurement(3, "lemma", 14.0, 200, sampling_seconds=8.0, update_seconds=5.0, publish_seconds=1.0,
                sandbox_cpu_seconds=4.0, programs=12, rounds=2, prompts=10, longest=30, spread=5.0, learned_tokens=70, cores=4),
    Measurement(3, "record", 1.0, cores=4),
    Measurement(3, "checkpoint", 3.0, cores=4),
)  # fmt: skip


def write(root: Path, config: RunConfig, laps: tuple[Measurement, ...] = LAPS) -> Path:
    run = create_run(root, config)
    with JournalWriter(run.journal) as journal:
        journal.append(Started(config, "0"))
        for split, tokens in (("validation", 450), ("goalposts", 150)):
            journal.append(EvaluationRecord(Evaluation(0, split, 1.0, (ProblemScore("p", 1, 0, 0),), tokens)))
    run.metrics.write_bytes(b"".join(msgspec.json.encode(lap) + b"\n" for lap in laps))
    return root


def test_an_iteration_is_the_mean_of_those_measured_after_the_first_which_warms_everything_up(tmp_path: Path) -> None:
    found = measured(write(tmp_path / "run", demo()), demo(), on_cpu=False)

    lemma, record = found.work.iteration
    assert (found.iterations, lemma.name, record.seconds) == (3, "lemma", 1.0)
    assert (lemma.seconds, lemma.sampling, lemma.update, lemma.publish, lemma.rest) == (12.0, 7.0, 3.0, 1.0, 1.0)
    assert (lemma.tokens, lemma.longest, lemma.prompts, lemma.rounds, lemma.learned) == (150, 25, 10, 2, 60)
    assert lemma.spread == pytest.approx(((9 + 25) / 2) ** 0.5)
    (evaluation,) = found.work.evaluation
    assert (evaluation.sampling, evaluation.rest, found.work.goalposts, found.work.checkpoint) == (20, 10, 0.25, 3)
    assert (found.work.workers, found.work.shared_cores, found.others) == (4, 0, ())
    assert measured(tmp_path / "run", demo(), on_cpu=True).work.shared_cores == 4


def test_settings_that_decide_how_much_there_is_to_do_are_named_where_they_differ(tmp_path: Path) -> None:
    planned = replace(demo(), steps=500, engine="ray", sampling=replace(demo().sampling, max_tokens=99))

    found = measured(write(tmp_path / "run", demo()), planned, on_cpu=True)

    assert found.others == ("sampling.max_tokens 200, planned 99",)


def test_a_run_of_several_processes_says_who_did_the_work(tmp_path: Path) -> None:
    several = replace(demo(), engine="ray", ray=RayConfig(learners=2, samplers=3, sandboxes=2))

    found = measured(write(tmp_path / "several", several), demo(), on_cpu=True)

    assert (found.work.learners, found.work.samplers, found.work.workers) == (2, 3, 8)


def test_a_run_that_cannot_tell_is_refused(tmp_path: Path) -> None:
    service = replace(demo(), engine="tinker", model=replace(demo().model, lora=LoraConfig(8)))
    with pytest.raises(ConfigError, match="at a service"):
        measured(write(tmp_path / "service", service), demo(), on_cpu=True)
    with pytest.raises(RunError, match="no iteration yet"):
        measured(write(tmp_path / "young", demo(), LAPS[:2]), demo(), on_cpu=True)
    old = tuple(Measurement(lap.step, lap.phase, lap.seconds) for lap in LAPS)
    with pytest.raises(RunError, match="older gasp-rl"):
        measured(write(tmp_path / "old", demo(), old), demo(), on_cpu=True)
    create_run(tmp_path / "empty", demo())
    with pytest.raises(RunError, match="has not begun"):
        measured(tmp_path / "empty", demo(), on_cpu=True)


def test_who_does_the_work_is_read_from_the_settings() -> None:
    config = replace(demo(), engine="ray", ray=RayConfig(learners=6, samplers=2, sandboxes=3))

    assert arrangement_of(demo(), 1, 4) == Arrangement(1, 1, True, 4)
    assert arrangement_of(config, 2, 4) == Arrangement(6, 2, False, 12, 2)
    assert arrangement_of(replace(config, sandbox=replace(config.sandbox, workers=5)), 1, 4).workers == 15


def test_how_often_everything_is_done() -> None:
    config = replace(demo(), steps=50, evaluate=EvaluateConfig(every=4), checkpoint=CheckpointConfig(every=5))

    assert amounts_of(config) == Amounts(50, 14, 13, 10)
    assert amounts_of(replace(config, matched_draws=False)).matched == 0
    assert amounts_of(replace(config, checkpoint=CheckpointConfig(every=0))).checkpoints == 0
