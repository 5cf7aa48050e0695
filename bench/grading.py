"""What grading costs: our grader beside LiveCodeBench's own evaluator, on the same answers, in the same run.

    python bench/grading.py ANSWERS PROBLEMS --peer PYTHON [--problems N] [--workers 2] [--rounds 1]

ANSWERS, PYTHON: as for `agreement.py`. Ten answers for each problem: its reference and nine mutants that fail. --problems N:
only the first so many, for a quick run. Both sides have as many workers and take turns, fifty problems at a time; CPU time of
all processes of a side is counted. A second line leaves out problems with a program that takes more than a second itself.
Ours grades as in training: faithful semantics, one process for the tests of a program.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from agreement import Answer, as_livecodebench_has_it, ours, peer, read_answers, their_row
from gasp_rl.problems.jsonl import read_problems

ANSWERS_PER_PROBLEM = 10
PROBLEMS_PER_TURN = 50
SLOW_SECONDS = 1.0
"""A program that takes longer costs both sides the same, and more than all else."""


class Cost(NamedTuple):
    """Of a turn, in CPU milliseconds."""

    answers: int
    right: int
    disputed: int
    ours: float
    theirs: float


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
    problems = [problem for problem in read_problems(options.file).problems if problem.id in by_problem]
    problems = problems[: options.problems]
    places = {problem.id: place for place, problem in enumerate(problems)}
    asked = [ten_answers(by_problem[problem.id]) for problem in problems]
    slow = [ten for ten in asked if any(answer.cpu_seconds > SLOW_SECONDS for answer in ten)]
    quick = [ten for ten in asked if ten not in slow]

    with ExitStack() as stack:
        us, them = ours(stack, "faithful", options.workers), peer(stack, options.peer, None)
        us.ask({"load": [str(options.file)]})
        them.ask({"load": [as_livecodebench_has_it(problem) for problem in problems]})

        def take_turns(answers: list[Answer]) -> Cost:
            found, our_cost = us.ask({"grade": [(a.id, a.program) for a in answers]})
            request = {"grade": [(places[a.id], a.program) for a in answers], "workers": options.workers}
            said, their_cost = them.ask(request)
            right = [all(outcome == "pass" for outcome in outcomes) for outcomes, _, _ in found]
            assert right == [answer.outcome == "pass" for answer in answers], "our verdicts are not what they were"
            disputed = sum(one != (their_row(*row)[-1:] == ("right",)) for one, row in zip(right, said, strict=True))
            return Cost(len(answers), sum(right), disputed, our_cost, their_cost)

        take_turns(asked[0])  # both begin warm
        for number in range(1, options.rounds + 1):
            print(f"round {number}")
            quick_costs, slow_costs = ([take_turns(ten_each) for ten_each in turns(some)] for some in (quick, slow))
            report(f"{len(problems)} problems", quick_costs + slow_costs)
            report(f"but for {len(slow)} with a program that takes {SLOW_SECONDS:g} s itself", quick_costs)


def turns(asked: list[list[Answer]]) -> Iterator[list[Answer]]:
    for at in range(0, len(asked), PROBLEMS_PER_TURN):
        yield [answer for ten in asked[at : at + PROBLEMS_PER_TURN] for answer in ten]


def report(what: str, costs: list[Cost]) -> None:
    answers, right, disputed, our_total, their_total = (sum(column) for column in zip(*costs, strict=True))
    ratios = [round(cost.theirs / cost.ours, 2) for cost in costs]
    print(
        f"{what}: {answers:.0f} answers, {right:.0f} right; LiveCodeBench says otherwise of {disputed:.0f}\n"
        f"  CPU milliseconds per answer: ours {our_total / answers:.2f}, theirs {their_total / answers:.2f}, "
        f"ratio {their_total / our_total:.2f}; of turns {statistics.median(ratios):.2f} ({min(ratios)} to {max(ratios)})",
        flush=True,
    )


if __name__ == "__main__":
    main()
