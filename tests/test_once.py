"""`gasp sandbox call` and `gasp sandbox grade`, as a script would use them."""

import json
from pathlib import Path
from typing import Any

import pytest

from gasp_rl.cli import main
from gasp_rl.problem import Encoding, IoMode, Problem, TestCase
from gasp_rl.problems.jsonl import write_problems

DOUBLE = Problem(
    "double", "", (TestCase("1", "2"),), (TestCase("2", "4"), TestCase("3", "6")), encoding=Encoding.JSON
)  # fmt: skip
ECHO = Problem("echo", "", (TestCase("a\n", "a\n"),), (), IoMode.STDIN, Encoding.TEXT)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_problems(Path("one.jsonl"), [DOUBLE])
    write_problems(Path("two.jsonl"), [DOUBLE, ECHO])
    Path("inputs.json").write_text("[[1], [2], [3]]")
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    """The JSON that a command printed, which must be one line and nothing else."""
    assert main(["sandbox", *args, "--json", "--sandbox.workers", "1"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.count("\n") == 1
    return json.loads(printed.out)


@pytest.mark.usefixtures("folder")
def test_a_call_gives_a_verdict_and_a_value_for_each_input(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.py").write_text("def f(x):\n    return [None, 1.5, {'a': x}] if x != 2 else 1 / 0")

    found = said(capsys, "call", "p.py", "--inputs", "inputs.json")

    assert found["verdict"] == "runtime_error"
    assert found["level"] in {"L2", "L3", "L4"}
    assert found["outputs"] == [
        {"value": [None, 1.5, {"a": 1}], "verdict": "ok", "detail": ""},
        {"value": None, "verdict": "runtime_error", "detail": "ZeroDivisionError: division by zero"},
        {"value": [None, 1.5, {"a": 3}], "verdict": "ok", "detail": ""},
    ]


@pytest.mark.usefixtures("folder")
def test_what_json_does_not_hold_exactly_is_a_repr(capsys: pytest.CaptureFixture[str]) -> None:
    Path("inputs.json").write_text(json.dumps([[number] for number in range(9)]))
    values = "(1,), {1}, {1: 2}, float('nan'), b'a', [[(1,)]], {'repr': 1}, '\\ud800', 10**30"
    Path("p.py").write_text(f"def g(n):\n    return [{values}][n]")

    outputs = said(capsys, "call", "p.py", "--inputs", "inputs.json", "--entry", "g")["outputs"]

    assert [output["value"] for output in outputs] == [
        {"repr": "(1,)"}, {"repr": "{1}"}, {"repr": "{1: 2}"}, {"repr": "nan"}, {"repr": "b'a'"}, {"repr": "[[(1,)]]"},
        {"repr": "{'repr': 1}"}, "\ud800", 10**30,
    ]  # fmt: skip


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("source", "verdicts"), [
    ("def f(x", ["compile_error"] * 3),
    ("def f(x):\n    import os\n    os._exit(0) if x == 2 else None", ["ok", "no_result", "no_result"]),
    ("def g(x): pass", ["runtime_error"] * 3),
])  # fmt: skip
def test_there_is_an_output_for_every_input_even_if_the_program_ends_before(
    capsys: pytest.CaptureFixture[str], source: str, verdicts: list[str]
) -> None:
    Path("p.py").write_text(source)

    found = said(capsys, "call", "p.py", "--inputs", "inputs.json")

    assert [output["verdict"] for output in found["outputs"]] == verdicts


@pytest.mark.usefixtures("folder")
def test_a_program_that_reads_standard_input_is_given_strings(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.py").write_text("print(input() * 2)")
    Path("inputs.json").write_text('["a", "b\\n"]')

    found = said(capsys, "call", "p.py", "--inputs", "inputs.json", "--entry", "")

    assert [output["value"] for output in found["outputs"]] == ["aa\n", "bb\n"]


@pytest.mark.usefixtures("folder")
def test_a_solution_is_graded_on_every_test(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.py").write_text("def f(x):\n    return 2 * x if x != 2 else 0")

    found = said(capsys, "grade", "one.jsonl", "p.py")

    assert (found["verdict"], found["passed"], found["total"]) == ("wrong_answer", 2, 3)
    assert [test["verdict"] for test in found["tests"]] == ["pass", "wrong_answer", "pass"]
    assert found["detail"] == "test 2 of 3: got '0', expected '4'"


@pytest.mark.usefixtures("folder")
def test_the_problem_is_chosen_by_its_id_and_the_semantics_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.py").write_text("import sys\nfor line in sys.stdin: print(line)")

    grade = ("grade", "two.jsonl", "p.py", "--id", "echo")

    assert said(capsys, *grade)["verdict"] == "pass"
    assert said(capsys, *grade, "--sandbox.grading.semantics", "lcb")["verdict"] == "runtime_error"


@pytest.mark.usefixtures("folder")
def test_people_get_lines_that_cannot_act_on_their_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.py").write_text("def f(x):\n    return '\\u202e' + 'a' * 200 if x == 1 else (x, None)")

    assert main(["sandbox", "call", "p.py", "--inputs", "inputs.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok (L")
    assert len(lines[1]) < 90
    assert lines[2] == "   2  (2, None)"
    assert main(["sandbox", "grade", "one.jsonl", "p.py"]) == 0
    assert capsys.readouterr().out.startswith("wrong_answer: 0 of 3 tests passed (L")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("args", "line"), [
    (["call", "no.py", "--inputs", "inputs.json"], "no.py: cannot be read: No such file or directory"),
    (["call", "latin.py", "--inputs", "inputs.json"], "latin.py: not a Python source in UTF-8: unexpected end of data at byte 2"),
    (["call", "p.py", "--inputs", "no.json"], "no.json: cannot be read: No such file or directory"),
    (["call", "p.py", "--inputs", "p.py"], "p.py: not JSON: Expecting value: line 1 column 1 (char 0)"),
    (["call", "p.py", "--inputs", "object.json"], "object.json: must hold a list with one list of arguments per call, holds an object"),
    (["call", "p.py", "--inputs", "flat.json"], "flat.json: input 2 must be a list of arguments, is a string"),
    (["call", "p.py", "--inputs", "deep.json"], "deep.json: input 1 holds a value that is too deep or too large"),
    (["call", "p.py", "--inputs", "inputs.json", "--entry", ""], "inputs.json: input 1 must be a string, the whole standard input, is a list"),
    (["grade", "two.jsonl", "p.py"], "two.jsonl: holds 2 problems that can be used; choose one with --id"),
    (["grade", "two.jsonl", "p.py", "--id", "ecko"], "two.jsonl: no problem 'ecko'; did you mean echo?"),
    (["grade", "left.jsonl", "p.py"], "left.jsonl: its only problem is left out: no tests: any program would pass"),
    (["grade", "left.jsonl", "p.py", "--id", "x"], "left.jsonl: problem x is left out: no tests: any program would pass"),
])  # fmt: skip
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], args: list[str], line: str) -> None:
    Path("p.py").write_text("def f(x): pass")
    Path("latin.py").write_bytes(b"# \xe4")
    Path("object.json").write_text("{}")
    Path("flat.json").write_text('[[1], "b"]')
    Path("deep.json").write_text("[[" + "[" * 70 + "]" * 70 + "]]")
    write_problems(Path("left.jsonl"), [Problem("x", "", (), ())])

    assert main(["sandbox", *args]) == 2

    assert capsys.readouterr().err == f"gasp: {line}\n"
