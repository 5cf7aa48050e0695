"""What sampling beside learning saves, and what its lag costs: equal runs with and without `--learn.overlap`, taking turns.

    python bench/overlap.py [--recipe micro-gasp] [--steps 15] [--seeds 3] [--out DIR]

One learner and one sampler of the engine `ray`, one thread each, truncated importance sampling on both sides. Seconds are those
of the iterations after the first; pass@1 is of the validation problems after the last.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tyro

from gasp_rl.runs.directory import RunDirectory
from gasp_rl.runs.journal import read_journal
from gasp_rl.runs.metrics import read_measurements
from gasp_rl.stats import pass_at_k

SIDES = {"by turns": "--learn.no-overlap", "overlapped": "--learn.overlap"}


@dataclass(frozen=True)
class Bench:
    recipe: str = "micro-gasp"
    steps: int = 15
    seeds: int = 3
    settings: str = ""
    """More settings of the recipe."""
    out: Path | None = None
    """Keep the runs here."""


@dataclass(frozen=True)
class Found:
    seconds: float
    """Of an iteration."""
    sampling: float
    update: float
    tokens: float
    """Sampled in an iteration."""
    passes: float


def run(asked: Bench, side: str, seed: int, out: Path) -> Found:
    command = (
        f"train {asked.recipe} --engine ray --ray.learners 1 --ray.samplers 1 --ray.object-store-mb 80 --seed {seed} "
        f"--steps {asked.steps} --learn.truncate 2 {side} --model.device cpu --model.dtype float32 --model.threads 1 "
        f"--sandbox.workers 1 --checkpoint.every 0 --evaluate.no-at-start --evaluate.every {asked.steps} "
        f"--evaluate.samples 10 --evaluate.ks 1 --no-matched-draws {asked.settings} --out {out}"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_memory_monitor_refresh_ms": "0"}
    subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "gasp_rl.cli", *command.split()], check=True, stdout=subprocess.DEVNULL, env=environment
    )
    directory, later = RunDirectory(out), asked.steps - 1
    laps = [lap for lap in read_measurements(directory.metrics) if lap.training and lap.step > 1]
    last = [one for one in read_journal(directory.journal).evaluations if one.split == "validation"][-1]
    return Found(
        sum(lap.seconds for lap in laps) / later,
        sum(lap.sampling_seconds for lap in laps) / later,
        sum(lap.update_seconds for lap in laps) / later,
        sum(lap.tokens for lap in laps) / later,
        sum(pass_at_k(score.samples, score.passes, 1) for score in last.scores) / len(last.scores),
    )


def main() -> None:
    asked = tyro.cli(Bench)
    print(f"{'':12} {'seed':>4} {'s/iteration':>11} {'sampling':>9} {'update':>7} {'tokens':>8} {'pass@1':>7}")
    ratios = []
    with tempfile.TemporaryDirectory() as scratch:
        root = asked.out or Path(scratch)
        for seed in range(1, asked.seeds + 1):
            found = {
                name: run(asked, side, seed, root / f"{name}-{seed}".replace(" ", "-")) for name, side in SIDES.items()
            }
            for name, one in found.items():
                print(f"{name:12} {seed:4} {one.seconds:11.2f} {one.sampling:9.2f} {one.update:7.2f} {one.tokens:8,.0f} "
                      f"{one.passes:7.1%}", flush=True)  # fmt: skip
            ratios.append(found["overlapped"].seconds / found["by turns"].seconds)
    print(
        f"overlapped takes {median(ratios):.2f} of the time (median of {asked.seeds}; {min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
