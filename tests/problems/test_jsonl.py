"""Problem files: nothing is lost, nothing is guessed, and what is wrong is named by line and field."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gasp_rl.errors import ProblemFileError
from gasp_rl.problem import CompareKind, Comparison, Encoding, IoMode, Problem, TestCase
from gasp_rl.problems.forms.base import default_public
from gasp_rl.problems.jsonl import ProblemFile, read_problems, write_problems

NORMAL: dict[str, Any] = {
    "id": "shop/change",
    "source": "hand-made",
    "date": None,
    "difficulty": "easy",
    "statement": "Give the fewest coins that make the amount.",
    "starter_code": "",
    "entry_point": "change",
    "io_mode": "functional",
    "io_encoding": "json",
    "compare": {"type": "exact"},
    "tests": [{"input": f"[1, 5]\n{n}", "output": str(n // 5 + n % 5), "group": "small"} for n in range(1, 7)],
    "reference_solution": None,
    "tags": ["greedy"],
}

texts = st.text('aZ0é☃😀"\\{}:, \n\t\0\u2028', max_size=12)  # what JSON, lines and encodings could trip over
names = st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(str.isidentifier)
tolerances = st.floats(0, 1)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    stdin = draw(st.booleans())
    values = texts if stdin else st.integers().map(str) | st.lists(st.booleans()).map(json.dumps)
    tests = draw(st.lists(st.builds(TestCase, input=values, output=values), min_size=1, max_size=4))
    public = draw(st.integers(0, len(tests)))
    kinds = [CompareKind.EXACT, CompareKind.FLOAT_TOKENS] if stdin else [CompareKind.FLOAT, CompareKind.SET]
    return Problem(
        id=draw(texts.filter(bool)),
        statement=draw(texts),
        public_tests=tuple(tests[:public]),
        hidden_tests=tuple(tests[public:]),
        io_mode=IoMode.STDIN if stdin else IoMode.FUNCTIONAL,
        encoding=Encoding.TEXT if stdin else Encoding.JSON,
        compare=Comparison(draw(st.sampled_from(kinds)), draw(tolerances), draw(tolerances)),
        entry_point="" if stdin else draw(names),
        starter_code=draw(texts),
        source=draw(texts),
        reference=draw(texts),
    )


def read_rows(tmp_path: Path, *rows: dict[str, Any] | bytes) -> ProblemFile:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows))
    return read_problems(path)


def complaint(tmp_path: Path, *rows: dict[str, Any] | bytes) -> str:
    with pytest.raises(ProblemFileError) as caught:
        read_rows(tmp_path, *rows)
    return str(caught.value).removeprefix(str(tmp_path / "rows.jsonl"))


@given(st.lists(problems(), max_size=4, unique_by=lambda problem: problem.id))
@settings(max_examples=40)
def test_what_is_written_is_read_back(written: list[Problem]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "own.jsonl"
        write_problems(path, written)

        assert read_problems(path) == ProblemFile(tuple(written), ())


def test_a_row_of_the_normal_form_becomes_a_problem(tmp_path: Path) -> None:
    row = NORMAL | {"n_public_tests": 1, "reference_solution": "def change(coins, n): ...", "date": "2024-05-01"}

    (problem,) = read_rows(tmp_path, row).problems

    assert problem.public_tests == (TestCase("[1, 5]\n1", "1"),)
    assert len(problem.hidden_tests) == 5
    assert (problem.io_mode, problem.encoding, problem.compare) == (IoMode.FUNCTIONAL, Encoding.JSON, Comparison())
    assert (problem.entry_point, problem.date) == ("change", "2024-05-01")
    assert problem.reference == "def change(coins, n): ..."


def test_both_forms_may_stand_in_one_file(tmp_path: Path) -> None:
    (first,) = read_rows(tmp_path, NORMAL).problems
    write_problems(tmp_path / "own.jsonl", [first])

    both = read_rows(tmp_path, (tmp_path / "own.jsonl").read_bytes().strip(), NORMAL | {"id": "other"}).problems

    assert [problem.id for problem in both] == ["shop/change", "other"]


@pytest.mark.parametrize(("mode", "tests", "public"), [
    (IoMode.FUNCTIONAL, 0, 0), (IoMode.FUNCTIONAL, 1, 0), (IoMode.FUNCTIONAL, 2, 1), (IoMode.FUNCTIONAL, 40, 2),
    (IoMode.STDIN, 1, 0), (IoMode.STDIN, 2, 1), (IoMode.STDIN, 9, 1),
])  # fmt: skip
def test_without_a_count_the_first_tests_are_public_and_one_stays_hidden(mode: IoMode, tests: int, public: int) -> None:
    assert default_public(mode, tests) == public


@pytest.mark.parametrize(("change", "reason"), [
    ({"errata": "multiple_answers"}, "errata: multiple_answers"),
    ({"compare": {"type": "checker", "name": "poly_root", "tol": 1e-4}},
     "compare checker: needs a checker program of its own"),
    ({"compare": {"type": "test_code"}, "tests": []},
     "compare test_code: judged by test code, not by input and output"),
    ({"tests": []}, "no tests: any program would pass"),
    ({"io_encoding": "pyliteral", "tests": [{"input": "1", "output": "(1+2j)"}]},
     "a value that the sandbox does not give: (1+2j)"),
    ({"tests": [{"input": "[" * 70 + "]" * 70, "output": "1"}]}, "a value that the sandbox does not give: " + "[" * 60),
])  # fmt: skip
def test_a_row_that_cannot_be_judged_is_left_out_and_counted(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    file = read_rows(tmp_path, NORMAL | {"id": "kept"}, NORMAL | change)

    assert [problem.id for problem in file.problems] == ["kept"]
    assert [(gone.id, gone.line, gone.reason) for gone in file.excluded] == [("shop/change", 2, reason)]


@pytest.mark.parametrize(("change", "said"), [
    ({"statement": 7}, ":2: statement: Expected `str`, got `int`"),
    ({"tests": [{"input": "1", "output": 1}]}, ":2: tests[0].output: Expected `str`, got `int`"),
    ({"tests": "none"}, ":2: tests: Expected `array`, got `str`"),
    ({"io_mode": "pipe"}, ":2: io_mode: Invalid enum value 'pipe'"),
    ({"io_mode": "stdin"}, ":2: io_encoding: must be 'text' for stdin, got 'json'"),
    ({"io_encoding": "text"}, ":2: io_encoding: must be 'json' or 'pyliteral' for functional, got 'text'"),
    ({"compare": {"type": "fuzzy"}},
     ":2: compare.type: must be one of exact, float, set, truthy, float_tokens, checker, test_code, got 'fuzzy'"),
    ({"compare": {"type": "float", "atol": -1}}, ":2: compare.atol: must be a number of 0 or more, got -1.0"),
    ({"compare": {"type": "float_tokens"}}, ":2: compare: 'float_tokens' does not go with functional"),
    ({"entry_point": None}, ":2: entry_point: must name a function for functional, got ''"),
    ({"entry_point": "a.b"}, ":2: entry_point: must name a function for functional, got 'a.b'"),
    ({"n_public_tests": 7}, ":2: n_public_tests: must be between 0 and 6 (the tests), got 7"),
    ({"tests": [{"input": "[1\n2", "output": "3"}]}, ":2: tests[0].input: not a json value: '[1'"),
    ({"tests": [{"input": "1", "output": "(1, 2)"}]}, ":2: tests[0].output: not a json value: '(1, 2)'"),
    ({"id": ""}, ":2: id: must not be empty"),
    ({"id": "kept"}, ":2: id: 'kept' is already the id of line 1"),
])  # fmt: skip
def test_a_malformed_row_is_named_by_line_and_field(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    assert complaint(tmp_path, NORMAL | {"id": "kept"}, NORMAL | change) == said


def test_a_misspelled_field_of_our_own_form_is_not_ignored(tmp_path: Path) -> None:
    row = {"id": "a", "statement": "", "public_tests": [], "hidden_tests": [], "entrypoint": "g"}

    assert complaint(tmp_path, row) == ":1: entrypoint: not a field of a problem"


@pytest.mark.parametrize("field", ["id", "statement", "io_mode", "io_encoding", "compare", "tests", "entry_point"])
def test_no_field_that_decides_a_verdict_is_guessed(tmp_path: Path, field: str) -> None:
    row = {key: value for key, value in NORMAL.items() if key != field}

    assert complaint(tmp_path, row) == f":1: row: Object missing required field `{field}`"


@given(good=st.integers(0, 4), junk=st.binary(min_size=1, max_size=30))
def test_bytes_that_are_not_a_row_name_their_line(good: int, junk: bytes) -> None:
    bad = b"\xff" + junk.replace(b"\n", b"")  # no JSON text starts with this byte
    rows = [json.dumps(NORMAL | {"id": str(n)}).encode() for n in range(good)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(b"\n".join([*rows, bad, *rows]))

        with pytest.raises(ProblemFileError, match=rf"rows\.jsonl:{good + 1}: row: "):
            read_problems(path)


@given(cut=st.integers(1, len(json.dumps(NORMAL)) - 1))
def test_a_row_cut_short_is_an_error_wherever_it_was_cut(cut: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(json.dumps(NORMAL).encode()[:cut])

        with pytest.raises(ProblemFileError, match=r"rows\.jsonl:1: row: "):
            read_problems(path)


def test_blank_lines_are_no_rows_but_keep_their_numbers(tmp_path: Path) -> None:
    assert complaint(tmp_path, NORMAL, b"", b"  ", b"[]") == ":4: row: must be a JSON object, got list"


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ProblemFileError, match="cannot be read: No such file"):
        read_problems(tmp_path / "gone.jsonl")
