"""LiveCodeBench's own evaluator, run by `agreement.py` and `grading.py` with an interpreter that has it.

    PYTHON grading_peer.py [TESTING_UTIL]

TESTING_UTIL: the file of that name from another version of LiveCodeBench, in the place of the package's own.

Reads one JSON request per line. {"load": [sample, ...]}: `input_output` of each problem as LiveCodeBench has it. {"grade":
[[place of a problem, program], ...], "workers": n}: answers with the list of results and the error code of each program, as
its evaluator gave them.
"""

import gc
import importlib.util
import json
import os
import sys
from importlib import import_module
from typing import Any

EVALUATOR = "livecodebench.evaluation.compute_code_generation_metrics"
TESTING_UTIL = "livecodebench.evaluation.testing_util"
SECONDS = 6


def evaluated(samples: list[dict[str, str]], asked: list[tuple[int, str]], workers: int) -> list[Any]:
    evaluate = import_module(EVALUATOR).evaluate_generations
    given = [samples[place] for place, _ in asked], [[program] for _, program in asked]
    results, about = evaluate(*given, num_process_evaluate=workers, timeout=SECONDS)
    return [(results[place][0], about[place][0].get("error_code")) for place in range(len(asked))]


def replace_testing_util(path: str) -> None:
    spec = importlib.util.spec_from_file_location(TESTING_UTIL, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[TESTING_UTIL] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def main() -> None:
    channel = os.fdopen(os.dup(1), "w")
    if len(sys.argv) > 1:
        replace_testing_util(sys.argv[1])
    import_module(EVALUATOR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what programs print
    os.dup2(nowhere, 2)
    samples: list[dict[str, str]] = []
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            samples = [{"input_output": json.dumps(sample)} for sample in request["load"]]
            answer: list[Any] = []
        else:
            answer = evaluated(samples, request["grade"], request["workers"])
        gc.collect()  # its helper processes end when they are collected
        print(json.dumps(answer), file=channel, flush=True)


if __name__ == "__main__":
    main()
