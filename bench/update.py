"""How fast is one update? The learner against TRL's GRPOTrainer, side by side, each in a process of its own.

    python bench/update.py --trl PYTHON [--vocabulary 32768] [--threads 1] [--repeats 3]

PYTHON: an interpreter that has `trl` (made for 1.16.0). Both learn the same rollouts with the same small Qwen2, made from its
configuration, in float32: 3 prompts of 128 tokens with 8 completions each, one optimizer step of GRPO without a reference
model. A micro-batch holds two rows of the longest text, padding included, for TRL, and no more tokens for us. Sides take
turns; a ratio is the median over turns; CPU seconds are those of all threads of the side's process; memory is the highest
resident size during an update above that before the first. That both sides found the same norm of the gradient is asserted.
"""

import argparse
import math
import os
import random
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from decoding import Side

HERE = Path(__file__).parent
GROUPS, GROUP_SIZE = 3, 8
PROMPT = 128
MEAN, LONGEST = 200, 1024
SPREAD = 0.8
"""Of the logarithm of a completion's length."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one update learns from. Token budget: of a micro-batch, padding included."""

    prompts: list[list[int]]
    completions: list[list[int]]
    advantages: list[float]
    token_budget: int


def work(lengths: list[int], vocabulary: int, *, shared: bool) -> Work:
    rng = random.Random(0)

    def text(length: int) -> list[int]:
        return [rng.randrange(4, vocabulary) for _ in range(length)]

    groups = [text(PROMPT) for _ in range(GROUPS)]
    prompts = [groups[place // GROUP_SIZE] if shared else text(PROMPT) for place in range(len(lengths))]
    advantages = [math.sin(1 + place) for place in range(len(lengths))]
    return Work(prompts, [text(length) for length in lengths], advantages, 2 * (PROMPT + max(lengths)))


def uneven() -> list[int]:
    """Log-normal lengths, cut at the longest, that is there once at least."""
    rng = random.Random(1)
    center = math.log(MEAN) - SPREAD**2 / 2
    lengths = [min(LONGEST, max(1, round(rng.lognormvariate(center, SPREAD)))) for _ in range(GROUPS * GROUP_SIZE - 1)]
    return [*lengths, LONGEST]


def start(name: str, python: str, options: argparse.Namespace) -> Side:
    command = [python, str(HERE / "update_sides.py"), name, str(options.vocabulary), str(options.threads)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent / "src"), "OMP_NUM_THREADS": str(options.threads)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603 - our own file
    return Side(name, process)


def report(case: str, given: Work, turns: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    tokens = sum(map(len, given.completions))
    print(f"\n{case}: {tokens:,} completion tokens, micro-batches of {given.token_budget:,} tokens at most")
    print(f"{'':6} {'CPU s':>7} {'tokens/CPU s':>13} {'seconds':>8} {'memory, MiB':>12}")
    for place, name in enumerate(("ours", "trl")):
        cpu, seconds, memory = (median(turn[place][key] for turn in turns) for key in ("cpu", "seconds", "memory"))
        print(f"{name:6} {cpu:7.2f} {tokens / cpu:13.1f} {seconds:8.2f} {memory / 2**20:12.0f}")
    faster = (median(trl[key] / ours[key] for ours, trl in turns) for key in ("cpu", "seconds"))
    print("ours is {:.2f}x per CPU second, {:.2f}x by the clock".format(*faster))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl", required=True, help="an interpreter that has trl")
    parser.add_argument("--vocabulary", type=int, default=32_768, help="of the model; Qwen2.5 has 151,936")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    sides = [start("ours", sys.executable, options), start("trl", options.trl, options)]
    for side in sides:
        print(f"{side.name}: {side.answer()['versions']}", flush=True)
    cases = {
        "equal lengths, every prompt another": work([MEAN] * GROUPS * GROUP_SIZE, options.vocabulary, shared=False),
        "log-normal lengths, prompts shared by 8": work(uneven(), options.vocabulary, shared=True),
        "log-normal lengths, every prompt another": work(uneven(), options.vocabulary, shared=False),
    }
    for case, given in cases.items():
        turns = []
        for turn in range(options.repeats + 1):
            ours, trl = (side.take(asdict(given)) for side in sides)
            assert math.isclose(ours["norm"], trl["norm"], rel_tol=1e-3), (ours["norm"], trl["norm"])
            if turn:  # the first turn warms up
                turns.append((ours, trl))
        report(case, given, turns)
    for side in sides:
        side.close()


if __name__ == "__main__":
    main()
