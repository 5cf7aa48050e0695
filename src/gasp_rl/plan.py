"""How long a recipe will take, from what an earlier run of it on few devices was measured to take."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from gasp_rl.config import RunConfig
from gasp_rl.errors import ConfigError, RunError
from gasp_rl.policy.needs import MemoryPlan
from gasp_rl.runs.differences import differences
from gasp_rl.runs.directory import open_run
from gasp_rl.runs.journal import Journal, read_journal
from gasp_rl.runs.metrics import CHECKPOINT, EVALUATE, Measurement, read_measurements
from gasp_rl.scaling import Amounts, Arrangement, Measured, Stage, Traffic, Work

RECORD = "record"
"""The last phase of every iteration."""

AMOUNT = ("recipe", "gasp", "azr", "rlvr", "model", "problems", "firewall", "sampling", "learn", "evaluate")
"""Settings that decide how much there is to do, and how fast one device does it."""


def measured(run: Path, config: RunConfig, *, on_cpu: bool) -> Measured:
    """What a run was measured to take; `on_cpu`: its model was where its programs were.

    RunError or ConfigError where that cannot be said.
    """
    directory = open_run(run)
    if not directory.journal.exists():
        raise RunError(f"{run} has not begun: there is nothing to plan from")
    journal, measurements = read_journal(directory.journal), read_measurements(directory.metrics)
    if journal.started is None:
        raise RunError(f"{run} has not begun: there is nothing to plan from")
    began = journal.started.config
    if began.engine == "tinker":
        raise ConfigError(
            f"{run} had its model at a service, whose devices nobody here knows: take a run with --engine local"
        )
    iterations = sum(m.training and m.phase == RECORD for m in measurements)
    if not iterations:
        raise RunError(f"{run} has no iteration yet: let it do one or two, then plan with --rates {run}")
    if not any(m.cores for m in measurements):
        raise RunError(f"{run} was measured by an older gasp-rl, without what a plan needs: run two iterations again")
    work = work_of(began, measurements, journal, on_cpu=on_cpu)
    return Measured(str(run), began.engine, iterations, work, tuple(_others(began, config)))


def work_of(config: RunConfig, measurements: Sequence[Measurement], journal: Journal, *, on_cpu: bool) -> Work:
    """What a run with these settings, of one iteration at the least, had to do."""
    training = [m for m in measurements if m.training]
    if any(m.step > training[0].step for m in training):  # the first iteration warms everything up, once
        training = [m for m in training if m.step > training[0].step]
    iterations = sum(m.phase == RECORD for m in training)
    cores = max(m.cores for m in training)
    evaluations = [m for m in measurements if m.phase == EVALUATE]
    checkpoints = [m.seconds for m in measurements if m.phase == CHECKPOINT]
    hosts = config.ray.sandboxes if config.engine == "ray" and config.ray.sandboxes else 1
    return Work(
        iteration=tuple(
            _stage([m for m in training if m.phase == name], iterations)
            for name in dict.fromkeys(m.phase for m in training)
        ),
        evaluation=(_stage(evaluations, len(evaluations)),) if evaluations else (),
        laps=tuple(_stage([m], 1) for m in (*training, *evaluations)),
        goalposts=_goalposts(journal),
        checkpoint=sum(checkpoints) / len(checkpoints) if checkpoints else 0.0,
        learners=config.ray.learners if config.engine == "ray" else 1,
        samplers=config.ray.samplers if config.engine == "ray" else 1,
        workers=hosts * (config.sandbox.workers or cores),
        shared_cores=cores if on_cpu else 0,
    )


def traffic_of(config: RunConfig, memory: MemoryPlan, link: float, network: float) -> Traffic:
    """`link` and `network` in bytes per second; 0: not known."""
    return Traffic(
        parameters=memory.parameters,
        learned=memory.learned,
        itemsize=2 if memory.dtype == "bfloat16" and memory.device != "cpu" else 4,
        token_budget=config.learn.token_budget,
        link=link,
        network=network,
    )


def arrangement_of(config: RunConfig, machines: int, cores: int) -> Arrangement:
    """As the settings have it."""
    ray, workers = config.ray, config.sandbox.workers or cores
    if config.engine == "local":
        return Arrangement(workers=workers)
    return Arrangement(ray.learners, ray.samplers, ray.colocate, workers * max(1, ray.sandboxes), machines)


def amounts_of(config: RunConfig) -> Amounts:
    """Of a run that no budget ends before its last iteration."""
    every = config.evaluate
    trained = every.times or -(-config.steps // every.every)
    checkpoints = -(-config.steps // config.checkpoint.every) if config.checkpoint.every else 0
    return Amounts(
        iterations=config.steps,
        evaluations=trained + every.at_start,
        matched=trained if config.matched_draws else 0,
        checkpoints=checkpoints,
    )


def _stage(laps: Sequence[Measurement], times: int) -> Stage:
    """The mean of so many."""
    prompts = sum(m.prompts for m in laps)
    squares = sum(m.prompts * m.spread**2 for m in laps)
    return Stage(
        name=laps[0].phase,
        seconds=sum(m.seconds for m in laps) / times,
        sampling=sum(m.sampling_seconds for m in laps) / times,
        update=sum(m.update_seconds - m.publish_seconds for m in laps) / times,
        publish=sum(m.publish_seconds for m in laps) / times,
        programs=sum(m.sandbox_cpu_seconds for m in laps) / times,
        tokens=sum(m.tokens for m in laps) / times,
        longest=sum(m.longest for m in laps) / times,
        rounds=sum(m.rounds for m in laps) / times,
        prompts=prompts / times,
        prompted=sum(m.prompt_tokens for m in laps) / times,
        spread=(squares / prompts) ** 0.5 if prompts else 0.0,
        learned=sum(m.learned_tokens for m in laps) / times,
        programs_run=sum(m.programs for m in laps) / times,
    )


def _goalposts(journal: Journal) -> float:
    """Their share of what was sampled in evaluations of both."""
    tokens = {"validation": 0, "goalposts": 0}
    for evaluation in journal.evaluations:
        if evaluation.split in tokens:
            tokens[evaluation.split] += evaluation.sampled_tokens
    return tokens["goalposts"] / total if (total := sum(tokens.values())) else 0.0


def _others(began: RunConfig, config: RunConfig) -> Iterator[str]:
    for name in AMOUNT:
        before, after = (msgspec.to_builtins(getattr(one, name)) for one in (began, config))
        for one in differences(before, after, name):
            yield f"{one.place} {one.before}, planned {one.after}"
