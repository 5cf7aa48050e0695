"""Do we grade as LiveCodeBench does? Both grade the same programs; each row that differs is shown.

    python bench/agreement.py ANSWERS PROBLEMS... --peer PYTHON [--testing-util FILE] [--differences FILE]

ANSWERS: as `mutants.py` writes them. PYTHON: an interpreter with `nvidia-livecodebench`, numpy and tqdm (`sandbox.py
--peers DIR` makes one in DIR/livecodebench/bin/python). FILE: `testing_util.py` of another version of LiveCodeBench.

Ours grades with `lcb` semantics. A row is the results of a program on the tests of its problem up to the first that fails:
right, wrong, error or time-out. Two rows agree if they are the same. LiveCodeBench's grader runs programs with little between
them and the machine; here it does so as an ordinary user without a network, in a folder of its own (which needs root).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from gasp_rl.problem import Encoding, IoMode, Problem
from gasp_rl.problems.jsonl import read_problems
from sandbox import Side

HERE = Path(__file__).parent
ANSWERS_AT_A_TIME = 200
WORKERS = 2
NOBODY = "65534"

Row: TypeAlias = tuple[str, ...]
"""right, right, ..., and how the first test that failed did."""
THEIRS = {-1: "time-out", -2: "wrong", -3: "time-out", -4: "error"}
PROCESS_DIED = -5
"""Error code where the process that grades came to an end: its results are lost, and those of earlier tests with them."""
OURS = {
    "pass": "right",
    "wrong_answer": "wrong",
    "unserializable": "wrong",
    "timeout_cpu": "time-out",
    "timeout_wall": "time-out",
}
"""A value that has no plain text equals no expected one. All other outcomes are errors."""


class Answer(NamedTuple):
    id: str
    program: str
    reference: bool
    outcome: str
    """As we grade it the faithful way."""
    cpu_seconds: float


class Difference(NamedTuple):
    answer: Answer
    ours: Row
    theirs: Row
    detail: str


def read_answers(path: Path) -> list[Answer]:
    with path.open() as file:
        return [Answer(**json.loads(line)) for line in file]


def as_livecodebench_has_it(problem: Problem) -> dict[str, Any]:
    sample: dict[str, Any] = {
        "inputs": [test.input for test in problem.tests],
        "outputs": [test.output for test in problem.tests],
    }
    return sample | ({"fn_name": problem.entry_point} if problem.io_mode is IoMode.FUNCTIONAL else {})


def can_be_graded_there(problem: Problem) -> bool:
    return problem.io_mode is IoMode.STDIN or problem.encoding is Encoding.JSON


def peer(stack: ExitStack, python: str, testing_util: Path | None) -> Side:
    """LiveCodeBench's evaluator, as nobody: who reads what root does, since Python may be installed there, and writes nothing."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    script = [folder / name for name in ("peer.py", *(["testing_util.py"] if testing_util else []))]
    for place, source in zip(script, (HERE / "grading_peer.py", testing_util), strict=False):
        assert source is not None
        place.write_bytes(source.read_bytes())
    home = folder / "home"
    home.mkdir()
    folder.chmod(0o755)
    subprocess.run(["chown", NOBODY, str(home)], check=True)  # noqa: S603, S607
    caps = "-all,+dac_read_search"
    return Side(
        stack,
        *("unshare", "--net", "--ipc", "--pid", "--fork", "--kill-child"),
        *("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--no-new-privs"),
        *(f"--inh-caps={caps}", f"--ambient-caps={caps}", f"--bounding-set={caps}"),
        *("prlimit", "--core=0", "--nofile=256", f"--fsize={64 << 20}", f"--as={16 << 30}", "--nproc=256"),
        *("env", "-i", "-C", str(home), f"HOME={home}", f"TMPDIR={home}", "PATH=/nonexistent", "PYTHONHASHSEED=0", "TQDM_DISABLE=1"),
        *(python, *map(str, script)),
    )  # fmt: skip


def ours(stack: ExitStack, semantics: str, workers: int) -> Side:
    return Side(stack, sys.executable, str(HERE / "grading_ours.py"), semantics, str(workers))


def their_row(results: Sequence[object], error_code: int | None) -> Row:
    if error_code == PROCESS_DIED:
        return ("error",)
    kinds = [
        "right" if result is True else THEIRS.get(result, "wrong") if type(result) is int else "wrong"
        for result in results
    ]
    return first_failure(kinds)


def our_row(outcomes: Sequence[str | None]) -> Row:
    return first_failure([OURS.get(outcome, "error") for outcome in outcomes if outcome is not None])


def first_failure(kinds: list[str]) -> Row:
    failed = next((place for place, kind in enumerate(kinds) if kind != "right"), len(kinds))
    return tuple(kinds[: failed + 1])


def differences(answers: list[Answer], problems: dict[str, Problem], us: Side, them: Side) -> Iterator[Difference]:
    places = {name: place for place, name in enumerate(problems)}
    them.ask({"load": [as_livecodebench_has_it(problem) for problem in problems.values()]})
    for at in range(0, len(answers), ANSWERS_AT_A_TIME):
        asked = answers[at : at + ANSWERS_AT_A_TIME]
        found, _ = us.ask({"grade": [(answer.id, answer.program) for answer in asked]})
        said, _ = them.ask({"grade": [(places[answer.id], answer.program) for answer in asked], "workers": WORKERS})
        for answer, (outcomes, detail, _), (results, error_code) in zip(asked, found, said, strict=True):
            if our_row(outcomes) != their_row(results, error_code):
                yield Difference(answer, our_row(outcomes), their_row(results, error_code), detail)


def in_words(row: Row) -> str:
    return "solved" if row and row[-1] == "right" else f"{row[-1]} at test {len(row)}" if row else "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path)
    parser.add_argument("problems", type=Path, nargs="+")
    parser.add_argument("--peer", required=True, help="the peer's interpreter")
    parser.add_argument("--testing-util", type=Path, help="the grader's file from another version")
    parser.add_argument("--differences", type=Path, help="where to write the rows that differ, with their programs")
    options = parser.parse_args()

    read = [problem for path in options.problems for problem in read_problems(path).problems]
    problems = {problem.id: problem for problem in read if can_be_graded_there(problem)}
    answers = [answer for answer in read_answers(options.answers) if answer.id in problems]
    kinds = Counter(
        "reference" if a.reference else "survivor" if a.outcome == "pass" else "failing mutant" for a in answers
    )
    with ExitStack() as stack:
        us, them = ours(stack, "lcb", WORKERS), peer(stack, options.peer, options.testing_util)
        us.ask({"load": [str(path) for path in options.problems]})
        found = list(differences(answers, problems, us, them))

    print(
        f"{len({answer.id for answer in answers})} problems: "
        + ", ".join(f"{n} {kind}s" for kind, n in sorted(kinds.items()))
    )
    verdicts = [one for one in found if (one.ours[-1:] == ("right",)) != (one.theirs[-1:] == ("right",))]
    print(
        f"{len(answers) - len(found)} rows agree, {len(found)} differ, {len(verdicts)} of them in whether it is solved"
    )
    alike: dict[tuple[str, str], list[Difference]] = defaultdict(list)
    for one in found:
        alike[in_words(one.ours), in_words(one.theirs)].append(one)
    for (we, they), some in sorted(alike.items(), key=lambda item: -len(item[1])):
        print(f"{len(some):6}  ours: {we}, theirs: {they}; first {some[0].answer.id}: {some[0].detail}")
    if options.differences:
        lines = [
            json.dumps({**one.answer._asdict(), "ours": one.ours, "theirs": one.theirs, "detail": one.detail})
            for one in found
        ]
        options.differences.write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
