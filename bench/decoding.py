"""How fast is sampling from a real model? Ours, `transformers` generate and vLLM, side by side, each in a process of its own.

    python bench/decoding.py MODEL [--cases 16x1 2x8] [--vllm PYTHON] [--dtype bfloat16] [--prompt 300] [--tokens 256] [--threads 1] [--repeats 3] [--device cpu]

MODEL: a Hugging Face directory. PYTHON: an interpreter that has vLLM (docs/models.md) and what gasp-rl needs; without it vLLM
is left out. 16 prompts with a sample each, then 2 prompts with 8 samples each; all prompts and samples are as long as asked.
Sides take turns, a ratio is the median over turns, CPU seconds are those of all threads of the side's process.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from transformers import AutoTokenizer

from gasp_rl.problems.microcode.splits import load

HERE = Path(__file__).parent
CASES = {"16x1": (16, 1), "2x8": (2, 8)}
"""Prompts, and samples of each."""


@dataclass
class Side:
    name: str
    process: subprocess.Popen[str]
    turns: list[dict[str, float]] = field(default_factory=list)

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def take(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def start(name: str, python: str, options: argparse.Namespace) -> Side:
    command = [
        python,
        str(HERE / "decoding_sides.py"),
        name,
        options.model,
        options.dtype,
        str(options.threads),
        options.device,
    ]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent / "src"), "OMP_NUM_THREADS": str(options.threads)}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603 - our own file
    return Side(name, process)


def prompts(model: str, count: int, length: int) -> list[list[int]]:
    """Statements of problems, one after the other, each time beginning with another one."""
    read: Callable[..., Any] = AutoTokenizer.from_pretrained
    tokenizer = read(model)
    statements = [problem.statement for problem in load("validation")]
    texts = ["\n\n".join(statements[place:]) for place in range(count)]
    return [tokenizer.encode(text, add_special_tokens=False)[:length] for text in texts]


def report(case: str, sides: list[Side]) -> None:
    print(
        f"\n{case}: {CASES[case][0]} prompts, {CASES[case][1]} samples of each, {sides[0].turns[0]['tokens']:,.0f} tokens"
    )
    print(f"{'':14} {'seconds':>8} {'tokens/s':>9} {'ours is':>8} {'CPU s':>8} {'tokens/CPU s':>13} {'ours is':>8}")
    for side in sides:
        cells = []
        for unit in ("seconds", "cpu"):
            spent = median(turn[unit] for turn in side.turns)
            rate = median(turn["tokens"] / turn[unit] for turn in side.turns)
            pairs = zip(sides[0].turns, side.turns, strict=True)
            ratio = median((a["tokens"] / a[unit]) / (b["tokens"] / b[unit]) for a, b in pairs)
            cells.append((spent, rate, ratio))
        (wall, rate, ratio), (cpu, cpu_rate, cpu_ratio) = cells
        print(f"{side.name:14} {wall:8.1f} {rate:9.1f} {ratio:7.2f}x {cpu:8.1f} {cpu_rate:13.1f} {cpu_ratio:7.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--vllm", help="an interpreter that has vLLM")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompt", type=int, default=300, help="tokens of each")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--sides", nargs="+", default=["ours", "transformers", "ours-vllm", "vllm"])
    options = parser.parse_args()

    sides = []
    for name in options.sides:
        if "vllm" not in name or options.vllm:
            side = start(name, options.vllm if "vllm" in name else sys.executable, options)
            print(f"{name}: torch {side.answer()['torch']}", flush=True)
            sides.append(side)
    print(f"{options.dtype}, {options.device}, {options.threads} threads, median of {options.repeats}")
    given = prompts(options.model, max(CASES[case][0] for case in options.cases), options.prompt)
    for side in sides:
        side.take({"prompts": given[:1], "n": 2, "tokens": 2})  # warms up
    for case in options.cases:
        count, n = CASES[case]
        for side in sides:
            side.turns = []
        for _ in range(options.repeats):
            for side in sides:
                turn = side.take({"prompts": given[:count], "n": n, "tokens": options.tokens})
                side.turns.append(turn)
                print(
                    f"{side.name} {case}: {turn['seconds']:.1f} s, {turn['cpu']:.1f} CPU s", file=sys.stderr, flush=True
                )
        report(case, sides)
    for side in sides:
        side.close()


if __name__ == "__main__":
    main()
