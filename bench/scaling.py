"""Is the scaling model right? Runs of one learner and one sampler by turns with runs of several, and what was foretold of the latter.

    python bench/scaling.py [--learners 2] [--samplers 2] [--steps 3] [--rounds 2] [--out DIR]

Every run is a process with a Ray cluster of its own, of the same recipe and seed, so that all have nearly the same to do: where
rounding makes them differ, it is said by how much. From each run of one and one, what the run after it takes is predicted
and compared, phase by phase, as sums over its iterations, with the speed of what learners send each other as bench/link.py
measures it here. Whatever else the machine does at that time is in both.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tyro

import link
from gasp_rl.plan import work_of
from gasp_rl.policy.learner import CPU_TOKENS
from gasp_rl.policy.models import MICRO, blank_model
from gasp_rl.runs.directory import RunDirectory, read_config
from gasp_rl.runs.journal import read_journal
from gasp_rl.runs.metrics import read_measurements
from gasp_rl.scaling import Arrangement, Stage, Traffic, Work, predicted


@dataclass(frozen=True)
class Bench:
    learners: int = 2
    samplers: int = 2
    steps: int = 3
    rounds: int = 2
    out: Path | None = None
    """Keep the runs here."""
    settings: str = "--learn.token-budget 2048"
    """More settings of the recipe."""


def run(asked: Bench, out: Path, learners: int, samplers: int) -> RunDirectory:
    command = (
        f"train micro-gasp --engine ray --ray.learners {learners} --ray.samplers {samplers} --ray.object-store-mb 80 "
        f"--steps {asked.steps} --model.device cpu --model.dtype float32 --model.threads 1 --sandbox.workers 1 "
        f"--checkpoint.every 0 --evaluate.no-at-start --evaluate.every {asked.steps} --evaluate.samples 1 --evaluate.ks 1 "
        f"--evaluate.validation-problems 4 --no-matched-draws --problems.max-goalposts 32 {asked.settings} --out {out}"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_memory_monitor_refresh_ms": "0"}
    subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "gasp_rl.cli", *command.split()], check=True, stdout=subprocess.DEVNULL, env=environment
    )
    return RunDirectory(out)


def stages(work: Work) -> dict[str, Stage]:
    return {stage.name: stage for stage in work.iteration}


def traffic_here(learners: int) -> Traffic:
    """What learners of the embedded model send each other, one thread each, as fast as it goes now."""
    model = blank_model(MICRO)
    layer = sum(parameter.numel() for parameter in model.base_model.get_submodule("layers.0").parameters())
    parameters = model.num_parameters()
    return Traffic(parameters, parameters, 4, CPU_TOKENS, link=link.speed(link.Bench(learners, parameters=layer)))


def compare(asked: Bench, traffic: Traffic, one: RunDirectory, several: RunDirectory) -> dict[str, tuple[float, float]]:
    """Seconds that were predicted and measured of each phase, and of an iteration."""
    config = read_config(one.config)
    single, many = (
        work_of(config, read_measurements(run.metrics), read_journal(run.journal), on_cpu=True)
        for run in (one, several)
    )
    to = Arrangement(asked.learners, asked.samplers, False, single.workers)
    found = {}
    for name, stage in stages(single).items():
        times, real = predicted(single, stage, traffic, to), stages(many)[name]
        found[f"{name}: sampling"] = times.sampling, real.sampling
        found[f"{name}: sampling, programs"] = times.sampling + times.programs, real.sampling + real.rest
        found[f"{name}: update, sending"] = times.update + times.transfer, real.update + real.publish
        found[name] = times.total, real.seconds
    whole = (sum(found[name][place] for name in stages(single)) for place in (0, 1))
    found["an iteration"] = next(whole), next(whole)
    found["(one and one)"] = (sum(stage.seconds for stage in stages(single).values()),) * 2
    tokens = [sum(stage.tokens for stage in stages(run).values()) for run in (single, many)]
    learned = [sum(stage.learned for stage in stages(run).values()) for run in (single, many)]
    print(f"tokens sampled an iteration {tokens[0]:,.0f} and {tokens[1]:,.0f}, learned from {learned[0]:,.0f} and {learned[1]:,.0f}; "
          f"seconds {found['(one and one)'][0]:.2f} with one and one, with several predicted {found['an iteration'][0]:.2f}, "
          f"measured {found['an iteration'][1]:.2f}", flush=True)  # fmt: skip
    return found


def main() -> None:
    asked = tyro.cli(Bench)
    with tempfile.TemporaryDirectory() as scratch:
        root = asked.out or Path(scratch)
        traffic = traffic_here(asked.learners)
        print(f"between learners {traffic.link / 1e9:.2f} GB/s")
        rounds = []
        for number in range(asked.rounds):
            one = run(asked, root / f"one-{number}", 1, 1)
            several = run(asked, root / f"several-{number}", asked.learners, asked.samplers)
            rounds.append(compare(asked, traffic, one, several))
    print(
        f"\nseconds an iteration, {asked.learners} learners and {asked.samplers} samplers, medians of {asked.rounds} rounds"
    )
    print(f"{'':32} {'predicted':>9} {'measured':>9} {'error':>7}")
    for name in rounds[0]:
        foretold, real = (median(found[name][place] for found in rounds) for place in (0, 1))
        if max(foretold, real) >= 0.1:
            error = median(found[name][0] / found[name][1] - 1 for found in rounds if found[name][1])
            print(f"{name:32} {foretold:9.2f} {real:9.2f} {error:+7.0%}")


if __name__ == "__main__":
    main()
