"""Every form of row that the field uses becomes the same typed problem, and nothing in a row can do harm."""

import base64
import gzip
import json
import os
import pickle
import re
import tracemalloc
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gasp_rl.config import ReadingConfig
from gasp_rl.errors import ProblemFileError
from gasp_rl.problem import CompareKind, Comparison, Encoding, IoMode, Problem, TestCase
from gasp_rl.problems.forms.base import Excluded
from gasp_rl.problems.forms.livecodebench import ERRATA, decode_private
from gasp_rl.problems.jsonl import Malformed, ProblemFile, ReadRow, read_problems, read_rows

DOCS = Path(__file__).parents[2] / "docs" / "problems.md"

EXAMPLES = [
    (form, json.loads(row))
    for form, section in re.findall(r"^### (\w+)\n(.*?)(?=^##)", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    for row in re.findall(r"^```json\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)
]
BY_FORM: dict[str, dict[str, Any]] = dict(reversed(EXAMPLES))


def read(*rows: dict[str, Any], reading: ReadingConfig = ReadingConfig()) -> ProblemFile:  # noqa: B008
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return read_problems(path, reading)


def one(row: dict[str, Any]) -> Problem:
    (problem,) = read(row).problems
    return problem


def left_out(row: dict[str, Any]) -> str:
    (excluded,) = read(row).excluded
    return excluded.reason


def complaint(*rows: dict[str, Any]) -> str:
    with pytest.raises(ProblemFileError) as caught:
        read(*rows)
    return str(caught.value).partition("rows.jsonl:")[2]


def cases(*tests: tuple[str, str], kind: str = "stdin") -> str:
    return json.dumps([{"input": given, "output": expected, "testtype": kind} for given, expected in tests])


def packed(value: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


# Documentation


@pytest.mark.parametrize(("form", "row"), EXAMPLES)
def test_every_row_of_the_documentation_is_read_as_the_form_it_stands_under(form: str, row: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "example.jsonl"
        path.write_text(json.dumps(row))

        (found,) = read_rows(path)

    assert isinstance(found.found, Problem)
    assert found.form == form
    assert len(found.found.hidden_tests) >= 1


# LiveCodeBench

LCB = BY_FORM["livecodebench"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_private_tests_are_the_same_packed_or_plain(protocol: int) -> None:
    hidden = cases(("2 2", "4"), ("é", "☃"))
    text = base64.b64encode(zlib.compress(pickle.dumps(hidden, protocol))).decode()

    problem = one(LCB | {"private_test_cases": text})

    assert problem == one(LCB | {"private_test_cases": hidden})
    assert problem.public_tests == (TestCase("1 2", "3"),)
    assert problem.hidden_tests == (TestCase("2 2", "4"), TestCase("é", "☃"))
    assert (problem.id, problem.io_mode, problem.encoding) == ("lcb/abc999_a", IoMode.STDIN, Encoding.TEXT)
    assert problem.date == "2024-08-03T00:00:00"


def test_a_function_of_livecodebench_is_called_with_one_argument_per_line() -> None:
    problem = one(LCB | {
        "platform": "leetcode",
        "starter_code": "class Solution:\n    def add(self, a: int, b: int) -> int:",
        "public_test_cases": cases(("1\n2", "3"), kind="functional"),
        "private_test_cases": packed(cases(('[1]\n"a"', "null"), kind="functional")),
        "metadata": '{"func_name": "add"}',
    })  # fmt: skip

    assert (problem.io_mode, problem.encoding, problem.entry_point) == (IoMode.FUNCTIONAL, Encoding.JSON, "add")
    assert problem.hidden_tests == (TestCase('[1]\n"a"', "null"),)


texts = st.text('aZ0é☃😀"\\{}[]:, \n\t\0\u2028', max_size=12)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4), st.integers(0, 4), st.booleans())
@settings(max_examples=50)
def test_a_problem_in_livecodebenchs_form_is_read_back(tests: list[tuple[str, str]], public: int, pack: bool) -> None:
    hidden = cases(*tests[public:])
    row = LCB | {"public_test_cases": cases(*tests[:public]), "private_test_cases": packed(hidden) if pack else hidden}

    problem = one(row)

    assert [(test.input, test.output) for test in problem.tests] == tests
    assert len(problem.public_tests) == min(public, len(tests))


@pytest.mark.parametrize(("id_or_title", "reason"), ERRATA.items())
def test_errata_are_left_out_and_can_be_asked_for(id_or_title: str, reason: str) -> None:
    field = "question_id" if "_" in id_or_title else "question_title"
    row = LCB | {field: id_or_title}

    assert left_out(row) == f"errata: {reason}"
    assert [p.statement for p in read(row, reading=ReadingConfig(errata=True)).problems] == [row["question_content"]]


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


HOSTILE = {
    "global": (pickle.dumps(Bomb("unpickled"), 0), "the pickle holds more than a string (GLOBAL): refused, nothing was run"),
    "stack global": (pickle.dumps(Bomb("unpickled")), "the pickle holds more than a string (STACK_GLOBAL): refused, nothing was run"),
    "list": (pickle.dumps(["a"]), "the pickle holds more than a string (EMPTY_LIST): refused, nothing was run"),
    "bytes": (pickle.dumps(b"[]"), "the pickle holds more than a string (SHORT_BINBYTES): refused, nothing was run"),
    "huge memo": (b"\x80\x04\x8c\x01ar\xff\xff\xff\xff.", "not JSON: "),
    "two strings": (b"\x80\x04\x8c\x01a\x8c\x01b.", "the pickle must hold one string, holds 2"),
    "nothing": (b"\x80\x04.", "the pickle must hold one string, holds 0"),
    "no pickle": (b"[]", "not a pickle: "),
    "cut pickle": (pickle.dumps("a" * 99)[:-20], "not a pickle: "),
    "declared length": (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fab.", "not a pickle: "),
    "empty": (b"", "not a pickle: "),
    "lone surrogate": (pickle.dumps('["\ud800"]'), "not JSON: "),
    "not tests": (pickle.dumps('{"input": 1}'), "Expected `array`, got `object`"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_by_row_and_field_and_never_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pickled, reason = HOSTILE[name]
    text = base64.b64encode(zlib.compress(pickled)).decode()

    said = complaint(LCB | {"question_id": "fine"}, LCB | {"private_test_cases": text})

    assert said.startswith(f"2: private_test_cases: {reason}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "reason"), [
    ("%%%", "private_test_cases: neither JSON nor base64: "),
    (packed("[]")[:-5], "private_test_cases: neither JSON nor base64: "),
    (packed("[" + " " * 999 + "]")[:24], "private_test_cases: compressed data end too early: the row was cut off"),
    (base64.b64encode(b"not zlib").decode(), "private_test_cases: not compressed by zlib: "),
    ('[{"input": 1, "output": "", "testtype": "stdin"}]', "private_test_cases[0].input: Expected `str`, got `int`"),
    (packed('[{"input": "", "output": null, "testtype": "stdin"}]'),
     "private_test_cases[0].output: Expected `str`, got `null`"),
    ('[{"input": ""}]', "private_test_cases[0]: Object missing required field `output`"),
    ("[", "private_test_cases: not JSON: "),
    (cases(("1", "1"), kind="functional"), "testtype: must be 'stdin' or 'functional' for all tests of a row"),
    (7, "private_test_cases: Expected `str`, got `int`"),
    ([], "private_test_cases: Expected `str`, got `array`"),
])  # fmt: skip
def test_private_tests_that_cannot_be_decoded_are_named(text: object, reason: str) -> None:
    assert complaint(LCB | {"private_test_cases": text}).startswith(f"1: {reason}")


def test_a_zip_bomb_costs_no_more_memory_than_it_may() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(200 << 20))).decode()

    tracemalloc.start()
    said = complaint(LCB | {"private_test_cases": bomb})
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert said == "1: private_test_cases: expands to more than 71 MiB: refused"
    assert most < 180 << 20


def test_what_is_packed_well_but_large_is_read() -> None:
    text = json.dumps([{"input": "7" * (30 << 20), "output": "", "testtype": "stdin"}])

    assert decode_private(packed(text)) == text


# Asserts


@pytest.mark.parametrize(("asserts", "compare", "tests"), [
    ("assert candidate([1], (2, 'a')) == {1: 2}", Comparison(), [("[1]\n(2, 'a')", "{1: 2}")]),
    ("assert candidate(1) is None, 'why'", Comparison(), [("1", "None")]),
    ("assert 3 == candidate(1)", Comparison(), [("1", "3")]),
    ("assert candidate() == -1.5", Comparison(), [("", "-1.5")]),
    ("assert candidate(3 * 19, 2 ** 3) == 'a' + 'b' * 2", Comparison(), [("57\n8", "'abb'")]),
    ("assert candidate(1) == float('inf')", Comparison(), [("1", "inf")]),
    ("assert candidate(1)\n    assert not candidate(0)", Comparison(CompareKind.TRUTHY), [("1", "True"), ("0", "False")]),
    ("assert set(candidate(1)) == set((1, 2))", Comparison(CompareKind.SET), [("1", "{1, 2}")]),
    ("assert tuple(candidate(1)) == (1, 2)", Comparison(CompareKind.FLOAT), [("1", "(1, 2)")]),
    ("assert abs(candidate(1) - 2 / 4) < 1e-6", Comparison(CompareKind.FLOAT, 1e-6), [("1", "0.5")]),
    ("assert candidate(0) == 1\n    assert abs(candidate(1) - 0.5) < 1e-6", Comparison(CompareKind.FLOAT, 1e-6),
     [("0", "1"), ("1", "0.5")]),
    ("assert math.isclose(candidate(1), 0.5, rel_tol=0.001)", Comparison(CompareKind.FLOAT, 0.0, 0.001), [("1", "0.5")]),
    ("assert True, 'fine'\n    assert candidate(1) == 1\n    assert candidate(2) == add(2)", Comparison(), [("1", "1")]),
    ("for x in range(2):\n        assert candidate(x) == str(x)", Comparison(), [("0", "'0'"), ("1", "'1'")]),
    ("x = [1, 2]\n    assert candidate(x) == 3", Comparison(), [("[1, 2]", "3")]),
    (("inputs = [[1, 2], [3, 4]]\n    results = [3, 7]\n    for i, (inp, exp) in enumerate(zip(inputs, results)):\n"
     "        assertion(candidate(*inp), exp, 0)"), Comparison(), [("1\n2", "3"), ("3\n4", "7")]),
    (("inputs = [[1]]\n    results = [[0.5]]\n    for i, (inp, exp) in enumerate(zip(inputs, results)):\n"
     "        assertion(candidate(*inp), exp, 0)"), Comparison(CompareKind.FLOAT, 1e-6, 1e-7), [("1", "[0.5]")]),
])  # fmt: skip
def test_plain_asserts_become_inputs_and_outputs(
    asserts: str, compare: Comparison, tests: list[tuple[str, str]]
) -> None:
    problem = one(BY_FORM["humaneval"] | {"test": f"import math\n\ndef check(candidate):\n    {asserts}\n"})

    assert [(test.input, test.output) for test in problem.tests] == tests
    assert problem.compare == compare
    assert problem.entry_point == "add"


@pytest.mark.parametrize(("asserts", "reason"), [
    ("assert candidate(open('x')) == 1", "`open('x')` is no plain value"),
    ("assert candidate(x=1) == 1", "`add(x=1)` is no plain call of the function"),
    ("assert candidate(1) < 2", "`add(1) < 2` is no plain call of the function"),
    ("assert sorted(candidate(1)) == [1]", "`sorted(add(1))` is no plain call of the function"),
    ("assert candidate(9 ** 9 ** 9) == 1", "`9 ** 9 ** 9` is no plain value"),
    ("assert candidate('a' * 10 ** 9) == 1", "`'a' * 10 ** 9` is no plain value"),
    ("assert candidate(1 / 0) == 1", "`1 / 0` is no plain value"),
    ("assert candidate(1) == other(1)", "`other(1)` is no plain value"),
    ("assert candidate(1)\n    assert candidate(2) == 2", "its asserts compare in different ways: exact, truthy"),
    ("for x in range(10 ** 9):\n        assert candidate(x) == x", "`range(10 ** 9)` is no plain value"),
    ("for x in range(9):\n        for y in range(9):\n            assert candidate(x) == y",
     "`for x in range(9): for y in range(9): assert add(x) == y` is no plain assert"),
    ("while True:\n        pass", "`while True: pass` is no plain assert"),
    ("assert candidate(1j) == 1j", "a value that the sandbox does not give"),
    (("inputs = [[1]]\n    results = []\n    for i, (inp, exp) in enumerate(zip(inputs, results)):\n"
     "        assertion(candidate(*inp), exp, 0)"), "inputs and results are no two lists of the same length"),
])  # fmt: skip
def test_a_problem_with_an_assert_that_is_not_plain_is_left_out_whole(asserts: str, reason: str) -> None:
    test = f"def check(candidate):\n    assert candidate(1, 2) == 3\n    {asserts}\n"

    assert left_out(BY_FORM["humaneval"] | {"test": test}) == f"judged by test code: {reason}"


def test_the_reference_of_humaneval_is_the_prompt_and_its_solution() -> None:
    row = BY_FORM["humaneval"]

    problem = one(row)

    assert problem.reference == row["prompt"] + row["canonical_solution"]
    assert (problem.statement, problem.starter_code) == (row["prompt"], row["prompt"])


def test_inputs_without_outputs_are_left_out_with_advice() -> None:
    row = {"task_id": "HumanEval/0", "prompt": "", "entry_point": "f", "base_input": [], "plus_input": [], "atol": 0}

    assert "take the form with a `test` field" in left_out(row)


@pytest.mark.parametrize(("change", "said"), [
    ({"test": "def check("}, "1: test: not Python: "),
    ({"test": "pass"}, "1: test: must define check(candidate)"),
    ({"prompt": 1}, "1: prompt: Expected `str`, got `int`"),
    ({"entry_point": "a b"}, "1: entry_point: must name a function for functional, got 'a b'"),
])  # fmt: skip
def test_a_malformed_row_of_humaneval_is_named(change: dict[str, Any], said: str) -> None:
    assert complaint(BY_FORM["humaneval"] | change).startswith(said)


PLUS = """
def assertion(out, exp, atol): ...
inputs = [[[1, 2], [2]]]
results = [[2]]
for i, (inp, exp) in enumerate(zip(inputs, results)):
    assertion(NAME(*inp), exp, 0)
"""


@pytest.mark.parametrize(
    ("name", "compare"), [("similar_elements", "set"), ("check_str", "truthy"), ("other", "exact")]
)
def test_mbpp_plus_is_compared_as_evalplus_does(name: str, compare: str) -> None:
    row = {
        "task_id": 2,
        "prompt": "?",
        "code": f"def {name}(a, b): ...",
        "test_list": [],
        "test": PLUS.replace("NAME", name),
    }

    problem = one(row)

    assert (problem.id, problem.compare.kind, problem.entry_point) == ("mbpp_plus/2", compare, name)
    assert problem.tests == (TestCase("[1, 2]\n[2]", "[2]"),)


def test_a_special_judge_of_mbpp_plus_is_left_out() -> None:
    row = {
        "task_id": 3,
        "prompt": "?",
        "code": "def sum_div(a, b): ...",
        "test_list": [],
        "test": PLUS.replace("NAME", "sum_div"),
    }

    assert left_out(row) == "judged by test code: EvalPlus compares it in a way of its own"


def test_the_function_of_mbpp_is_the_one_of_its_code_that_the_asserts_call() -> None:
    row = BY_FORM["mbpp"] | {
        "code": "def helper(x): ...\ndef add(a, b): ...", "challenge_test_list": ["assert add(5, 5) == 10"],
    }  # fmt: skip

    problem = one(row)

    assert problem.entry_point == "add"
    assert len(problem.tests) == 3
    assert complaint(row | {"code": "def sub(a, b): ..."}).startswith("1: code: defines none of the functions")


# Inputs and outputs

STDIN = {"inputs": ["1 2", ["3", "4"]], "outputs": ["3", ["7", ""]]}
CALLS = {"fn_name": "add", "inputs": [[1, [2]], ["a", None]], "outputs": [[3], [{"b": True}]]}


@pytest.mark.parametrize("wrap", [
    lambda tests: tests,
    lambda tests: {"input_output": json.dumps(tests)},
    lambda tests: {"test_cases": tests},
    lambda tests: {"ground_truth": json.dumps(tests)},
    lambda tests: {"tests": tests},
    lambda tests: {"reward_model": {"style": "rule", "ground_truth": json.dumps(tests)}},
    lambda tests: {"verification_info": json.dumps({"test_cases": json.dumps(tests)})},
    lambda tests: {"verification_info": {"language": "python", "test_cases": tests}},
])  # fmt: skip
def test_the_same_tests_are_read_wherever_a_row_keeps_them(wrap: Any) -> None:
    stdin, calls = one({"prompt": "?"} | wrap(STDIN)), one({"prompt": "?"} | wrap(CALLS))

    assert stdin.tests == (TestCase("1 2", "3"), TestCase("3\n4", "7\n"))
    assert (stdin.io_mode, stdin.entry_point) == (IoMode.STDIN, "")
    assert calls.tests == (TestCase("1\n[2]", "3"), TestCase('"a"\nnull', '{"b": true}'))
    assert (calls.io_mode, calls.encoding, calls.entry_point) == (IoMode.FUNCTIONAL, Encoding.JSON, "add")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False, width=32) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.tuples(st.lists(json_values, max_size=3), json_values), min_size=1, max_size=4), st.booleans())
def test_calls_are_the_same_parsed_and_wrapped_or_written_line_by_line(
    calls: list[tuple[list[Any], Any]], wrapped: bool
) -> None:
    if wrapped:
        tests: dict[str, Any] = {"inputs": [a for a, _ in calls], "outputs": [[out] for _, out in calls]}
    else:
        written = [("\n".join(map(json.dumps, a)), json.dumps(out)) for a, out in calls]
        tests = {"inputs": [a for a, _ in written], "outputs": [out for _, out in written]}

    problem = one({"question": "?", "fn_name": "f", **tests})

    read_back = [
        ([json.loads(line) for line in t.input.split("\n") if t.input], json.loads(t.output)) for t in problem.tests
    ]
    assert read_back == calls


def test_python_literals_are_used_where_json_does_not_do() -> None:
    problem = one({"question": "?", "fn_name": "f", "inputs": ["(1, 2)\nTrue", "[1]\n2"], "outputs": ["{1}", "None"]})

    assert problem.encoding is Encoding.PYLITERAL
    assert problem.tests == (TestCase("(1, 2)\nTrue", "{1}"), TestCase("[1]\n2", "None"))


def test_outputs_are_unwrapped_all_or_none() -> None:
    problem = one({"question": "?", "fn_name": "f", "inputs": [[1], [2]], "outputs": [[1], [1, 2]]})

    assert [test.output for test in problem.tests] == ["[1]", "[1, 2]"]


def test_a_list_of_tests_says_what_each_is() -> None:
    stdin = one({"problem": "?", "tests": [{"input": "1", "output": "2", "type": "stdin_stdout", "fn_name": None}]})
    call = one(
        {
            "problem": "?",
            "metadata": {"func_name": "g"},
            "tests": [{"input": "1", "output": "2", "testtype": "functional"}],
        }
    )

    assert (stdin.io_mode, call.io_mode, call.entry_point) == (IoMode.STDIN, IoMode.FUNCTIONAL, "g")


@pytest.mark.parametrize(("row", "said"), [
    ({"inputs": ["1"], "outputs": []}, "1: inputs: 1 inputs, but 0 outputs"),
    ({"tests": "{"}, "1: tests: not JSON: "),
    ({"tests": 5}, "1: tests: must be tests as an object, a list or a string of JSON, got int"),
    ({"tests": {"stdin": []}}, "1: tests: must have lists `inputs` and `outputs`, has stdin"),
    ({"tests": [{"input": "1"}]}, "1: tests[0]: must be an object with `input` and `output`"),
    ({"tests": {"inputs": [1], "outputs": ["1"]}}, "1: tests.inputs[0]: must be text, as no fn_name is given, got int"),
    ({"tests": {"inputs": [1], "outputs": ["1"], "fn_name": "f"}},
     "1: tests.inputs[0]: must be a list of arguments, got int"),
    ({"tests": {"inputs": ["x"], "outputs": ["1"], "fn_name": "f"}}, "1: tests[0].input: not a json value: 'x'"),
    ({"tests": {"inputs": [], "outputs": [], "fn_name": 3}}, "1: tests.fn_name: must be a string, got int"),
    ({"tests": [{"input": "", "output": "", "type": "unittest"}]}, "1: tests: types of tests must be of "),
    ({"tests": [{"input": "1", "output": "1", "type": "function_call"}]},
     "1: tests: its tests call a function, and nothing names it: give fn_name"),
    ({"tests": [{"input": "1", "output": "1", "type": kind} for kind in ("stdin", "functional")], "fn_name": "f"},
     "1: tests: some tests call a function, others read standard input"),
    ({"tests": [], "question": None, "prompt": []}, "1: prompt: must be text, or messages with one of the user"),
    ({"tests": [], "question": ""}, "1: statement: must be there, under any of "),
])  # fmt: skip
def test_tests_that_cannot_be_read_are_named(row: dict[str, Any], said: str) -> None:
    assert complaint({"question": "?"} | row).startswith(said)


@pytest.mark.parametrize(("row", "reason"), [
    ({"tests": ""}, "no tests: any program would pass"),
    ({"tests": {"inputs": [], "outputs": []}}, "no tests: any program would pass"),
    ({"verification_info": {"language": "cpp", "test_cases": []}}, "asks for cpp: only Python is run"),
])  # fmt: skip
def test_rows_that_cannot_be_judged_are_left_out(row: dict[str, Any], reason: str) -> None:
    assert left_out({"question": "?"} | row) == reason


def test_a_row_without_an_id_has_the_files_name_and_its_line() -> None:
    assert [p.id for p in read(BY_FORM["inputs_outputs"], BY_FORM["inputs_outputs"]).problems] == ["rows/1", "rows/2"]


# APPS, TACO, CodeContests, LeetCodeDataset


def test_apps_and_taco_are_told_apart_and_dated_if_they_can_be() -> None:
    taco = BY_FORM["apps"] | {
        "raw_tags": "[]",
        "source": "codeforces",
        "date": "2019-12-31T00:00:00",
        "difficulty": "EASY",
    }

    assert (one(BY_FORM["apps"]).id, one(BY_FORM["apps"]).source) == ("apps/17", "APPS")
    assert one(BY_FORM["apps"]).reference == "print(sum(map(int, input().split())))"
    assert (one(taco).source, one(taco).date, one(taco).difficulty) == (
        "TACO codeforces",
        "2019-12-31T00:00:00",
        "easy",
    )
    assert one(taco | {"date": "some day"}).date == ""
    assert complaint(BY_FORM["apps"] | {"solutions": "{}"}) == "1: solutions: must be a list of programs, got dict"


def test_numbers_of_any_length_are_kept() -> None:
    row = {"question": "?", "input_output": '{"inputs": [[1]], "outputs": [[%s]], "fn_name": "f"}' % ("9" * 50)}

    assert one(row).tests[0].output == "9" * 50


def test_codecontests_has_public_private_and_generated_tests() -> None:
    row = BY_FORM["codecontests"]
    problem = one(row | {"generated_tests": {"input": ["5 5\n"], "output": ["10\n"]}})

    assert (len(problem.public_tests), len(problem.hidden_tests)) == (1, 2)
    assert (problem.source, problem.difficulty) == ("CodeContests Codeforces", "a")
    assert left_out(row | {"input_file": "in.txt"}) == "reads or writes a file, in.txt: standard input and output only"
    assert (
        complaint(row | {"public_tests": {"input": ["1"], "output": []}}) == "1: public_tests: 1 inputs, but 0 outputs"
    )


def test_arguments_of_leetcode_are_put_in_the_order_of_the_signature() -> None:
    row = BY_FORM["leetcode"]

    problem = one(row | {"input_output": [{"input": "target = 6, nums = [3, 3]", "output": "true"}]})

    assert problem.hidden_tests == (TestCase("[3, 3]\n6", "True"),)
    assert (problem.entry_point, problem.reference[:20]) == ("twoSum", "from typing import *")


@pytest.mark.parametrize(("change", "reason"), [
    ({"starter_code": "class Solution:\n    def twoSum(self, head: Optional[ListNode]) -> int:"},
     "takes or gives linked nodes (ListNode)"),
    ({"input_output": [{"input": "nums = x, target = 6", "output": "1"}]}, "input_output[0] holds what is no plain value"),
    ({"input_output": [{"input": "nums = [], target = 6", "output": "Error: no"}]}, "input_output[0] holds what is no plain value"),
])  # fmt: skip
def test_problems_of_leetcode_that_need_more_than_plain_values_are_left_out(
    change: dict[str, Any], reason: str
) -> None:
    assert left_out(BY_FORM["leetcode"] | change) == reason


def test_an_input_of_leetcode_that_is_no_list_of_names_is_malformed() -> None:
    row = BY_FORM["leetcode"] | {"input_output": [{"input": "[3, 3], 6", "output": "1"}]}

    assert complaint(row) == "1: input_output[0].input: not like `n = 3, q = [1]`: '[3, 3], 6'"


# Files


def rows_of(path: Path) -> list[ReadRow]:
    return list(read_rows(path))


def test_a_file_may_be_packed_or_an_array_or_an_object_whatever_its_name(tmp_path: Path) -> None:
    rows = [BY_FORM["gasp"] | {"id": name} for name in "ab"]
    lines = "\n".join(map(json.dumps, rows)).encode()
    forms = {
        "lines": lines,
        "windows": b"\xef\xbb\xbf" + lines.replace(b"\n", b"\r\n"),
        "packed": gzip.compress(lines),
        "array": json.dumps(rows).encode(),
        "pretty": b"\n" + json.dumps(rows, indent=2).encode(),
        "packed array": gzip.compress(json.dumps(rows).encode()),
    }
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "object").write_text(json.dumps(rows[0], indent=1))

    first, second = (row.found for row in rows_of(tmp_path / "lines"))
    for name in forms:
        assert [row.found for row in rows_of(tmp_path / name)] == [first, second]
    assert [row.found for row in rows_of(tmp_path / "object")] == [first]


@pytest.mark.parametrize(("content", "said"), [
    (b"PAR1 and more", "is a Parquet file; write it as JSON Lines first"),
    (b"\x28\xb5\x2f\xfd...", "is compressed by zstd; unpack it first, or use gzip"),
    (gzip.compress(b'{"a": 1}\n' * 99, mtime=0)[:-9], "cannot be unpacked: "),
    (b"\x1f\x8bjunk", "cannot be unpacked: "),
    (b"[{}, ", "not a JSON array: "),
])  # fmt: skip
def test_a_file_that_cannot_be_read_says_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(ProblemFileError, match=re.escape(said)):
        rows_of(tmp_path / "file")


def test_a_row_of_no_known_form_says_what_it_has() -> None:
    assert complaint({"a": 1, "b": 2}) == "1: row: of no known form (docs/problems.md lists them); its fields: a, b"


def test_a_broken_row_is_read_as_the_row_before_it_which_can_say_what_is_missing() -> None:
    assert complaint(BY_FORM["codecontests"], {"name": "x"}) == "2: row: Object missing required field `description`"


def test_malformed_rows_are_skipped_only_by_choice_and_always_reported() -> None:
    rows = [BY_FORM["gasp"], {"a": 1}, BY_FORM["gasp"] | {"id": "other"}, BY_FORM["gasp"]]

    found = read(*rows, reading=ReadingConfig(skip_malformed=True))

    assert [problem.id for problem in found.problems] == ["double", "other"]
    assert [(row.line, row.field) for row in found.malformed] == [(2, "a"), (4, "id")]


@given(st.sampled_from(EXAMPLES), st.data())
@settings(max_examples=300)
def test_whatever_stands_in_a_field_a_row_is_a_problem_or_left_out_or_malformed(
    example: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    row = dict(example[1])
    for field in data.draw(st.sets(st.sampled_from(sorted(row)), min_size=1, max_size=2)):
        junk = data.draw(json_values | st.text(max_size=9) | json_values.map(json.dumps))
        row[field] = junk
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text(json.dumps(row))

        (found,) = read_rows(path)

    assert isinstance(found.found, Problem | Excluded | Malformed)
