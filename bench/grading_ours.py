"""Our grader under measurement. Run by `agreement.py` and `grading.py`.

    python grading_ours.py faithful|lcb WORKERS

Reads one JSON request per line. {"load": [file, ...]}: all problems of these files. {"grade": [[id, program], ...]}:
answers with the outcome of each test as far as they are known, a detail and CPU seconds per program.
"""

import json
import sys
from pathlib import Path
from typing import Any

from gasp_rl.config import GradeSemantics, GradingConfig, SandboxConfig
from gasp_rl.problem import Problem
from gasp_rl.problems.jsonl import read_problems
from gasp_rl.sandbox.grading import grade
from gasp_rl.sandbox.local import LocalSandbox


def graded(sandbox: LocalSandbox, problems: dict[str, Problem], asked: list[tuple[str, str]]) -> list[Any]:
    how = GradingConfig(semantics=GradeSemantics(sys.argv[1]))
    attempts = ((program, problems[name]) for name, program in asked)
    found = sorted(grade(sandbox, attempts, how))
    return [[[test and test.outcome for test in one.tests], one.detail, one.cpu_seconds] for _, one in found]


def main() -> None:
    problems: dict[str, Problem] = {}
    with LocalSandbox(SandboxConfig(workers=int(sys.argv[2]))) as sandbox:
        for line in sys.stdin:
            request = json.loads(line)
            answer: list[Any] = []
            if "load" in request:
                problems |= {
                    problem.id: problem for file in request["load"] for problem in read_problems(Path(file)).problems
                }
            else:
                answer = graded(sandbox, problems, request["grade"])
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
