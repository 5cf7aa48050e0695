"""What grading costs: our grader beside LiveCodeBench's own evaluator, on the same answers, in the same run.

    python bench/grading.py ANSWERS PROBLEMS --peer PYTHON [--problems N] [--workers 2] [--rounds 1]

ANSWERS, PYTHON: as for `agreement.py`. Ten answers for each problem: its reference and nine mutants that fail. --problems N:
only the first so many, for a quick run. Both sides have as many workers and take turns, fifty problems at a time; CPU time of
all processes of a side is counted. Ours grades as in training: faithful semantics, one process for the tests of a program.
"""

import argparse
import statistics
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from agreement import Answer, as_livecodebench_has_it, ours, peer, read_answers, their_row
from gasp_rl.problem import Problem
from gasp_rl.problems.jsonl import read_problems

ANSWERS_PER_PROBLEM = 10
PROBLEMS_PER_TURN = 50


def ten_answers(found: list[Answer]) -> list[Answer]:
    """The reference and the first nine mutants that fail; where there are fewer, some of these again."""
    reference = [answer for answer in found if answer.reference][:1]
    failing = [answer for answer in found if answer.outcome != "pass"]
    return (reference + failing * ANSWERS_PER_PROBLEM)[:ANSWERS_PER_PROBLEM]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path)
    parser.add_argument("file", metavar="PROBLEMS", type=Path)
    parser.add_argument("--peer", required=True, help="the peer's interpreter")
    parser.add_argument("--problems", type=int, help="how many")
    parser.add_argument("--workers", type=int, default=2, help="on either side")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()

    by_problem: dict[str, list[Answer]] = defaultdict(list)
    for answer in read_answers(options.answers):
        by_problem[answer.id].append(answer)
    problems: list[Problem] = [p for p in read_problems(options.file).problems if p.id in by_problem][
        : options.problems
    ]
    places = {problem.id: place for place, problem in enumerate(problems)}

    with ExitStack() as stack:
        us, them = ours(stack, "faithful", options.workers), peer(stack, options.peer, None)
        us.ask({"load": [str(options.file)]})
        them.ask({"load": [as_livecodebench_has_it(problem) for problem in problems]})
        us.ask({"grade": [(problems[0].id, problems[0].reference)] * 10})  # both begin warm
        them.ask({"grade": [(0, problems[0].reference)] * 10, "workers": options.workers})
        for number in range(1, options.rounds + 1):
            turns: list[tuple[float, float]] = []
            count = solved = disputed = 0
            for at in range(0, len(problems), PROBLEMS_PER_TURN):
                asked = [
                    a for problem in problems[at : at + PROBLEMS_PER_TURN] for a in ten_answers(by_problem[problem.id])
                ]
                found, our_cost = us.ask({"grade": [(a.id, a.program) for a in asked]})
                said, their_cost = them.ask(
                    {"grade": [(places[a.id], a.program) for a in asked], "workers": options.workers}
                )
                turns.append((our_cost, their_cost))
                right = [all(outcome == "pass" for outcome in outcomes) for outcomes, _, _ in found]
                assert right == [answer.outcome == "pass" for answer in asked], (
                    "our verdicts are not those that were expected"
                )
                count, solved = count + len(asked), solved + sum(right)
                disputed += sum(
                    one != (their_row(*row)[-1:] == ("right",)) for one, row in zip(right, said, strict=True)
                )
            our_total, their_total = (sum(costs) for costs in zip(*turns, strict=True))
            ratios = statistics.quantiles((theirs / our for our, theirs in turns), n=4) if len(turns) > 1 else []
            print(
                f"round {number}: {count} answers to {len(problems)} problems, {solved} right; LiveCodeBench says otherwise of {disputed}\n"
                f"CPU milliseconds per answer: ours {our_total / count:.2f}, theirs {their_total / count:.2f}, "
                f"ratio {their_total / our_total:.2f}; quartiles of turns {', '.join(f'{ratio:.2f}' for ratio in ratios)}"
            )


if __name__ == "__main__":
    main()
