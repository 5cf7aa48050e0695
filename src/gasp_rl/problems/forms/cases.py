"""The tests that most sets share: `{"inputs": [...], "outputs": [...], "fn_name"?}`, or a list of `{"input", "output"}`.

The first is APPS's, and TACO's, PRIME's, verl's after it; the second LiveCodeBench's, rLLM's, open-r1's and
SYNTHETIC-1's. Either may stand as an object or as a string of JSON, and a function's name inside or beside it.

stdin: texts; a list of texts is a list of lines. A function: a text holds one value per line and argument, as JSON or,
where JSON does not do for all of a row, as Python literals; anything else is a list of arguments, already parsed.
Outputs of parsed tests are wrapped in a list of one (APPS): where all of a row's are, they are unwrapped.
"""

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gasp_rl.problem import Encoding, IoMode, TestCase
from gasp_rl.problems.forms.base import RowError, parse_json

FIELDS = ("input_output", "test_cases", "ground_truth", "tests", "verification_info", "reward_model")
"""Where a row keeps its tests; one may hold the other."""

FUNCTION_TYPES = frozenset({"functional", "function_call"})
STDIN_TYPES = frozenset({"stdin", "stdin_stdout"})


@dataclass(frozen=True, slots=True)
class Cases:
    """Tests, and how they are given to a program."""

    tests: tuple[TestCase, ...]
    io_mode: IoMode
    encoding: Encoding
    entry_point: str = ""


@dataclass(frozen=True, slots=True)
class _Raw:
    """Inputs and outputs as they stand in the row."""

    inputs: list[Any]
    outputs: list[Any]
    fn_name: str = ""


def read_cases(value: object, field: str, fn_name: str = "") -> Cases:
    """The tests in a field's value. `fn_name`: the function's name, where the row gives it beside the tests."""
    raw = _unpack(value, field, fn_name)
    if len(raw.inputs) != len(raw.outputs):
        raise RowError(field, f"{len(raw.inputs)} inputs, but {len(raw.outputs)} outputs")
    if not raw.fn_name:
        tests = tuple(
            TestCase(_lines(given, f"{field}.inputs[{n}]"), _lines(expected, f"{field}.outputs[{n}]"))
            for n, (given, expected) in enumerate(zip(raw.inputs, raw.outputs, strict=True))
        )
        return Cases(tests, IoMode.STDIN, Encoding.TEXT)
    if all(isinstance(text, str) for text in raw.inputs):
        return _written_calls(raw, field)
    return _parsed_calls(raw, field)


def _unpack(value: object, field: str, fn_name: str) -> _Raw:
    if isinstance(value, str):
        return _unpack(parse_json(value, field), field, fn_name) if value.strip() else _Raw([], [])
    if isinstance(value, list):
        return _unpack_list(value, field, fn_name)
    if not isinstance(value, dict):
        raise RowError(field, f"must be tests as an object, a list or a string of JSON, got {type(value).__name__}")
    name = _name(value, field) or fn_name
    inputs, outputs = value.get("inputs"), value.get("outputs")
    if isinstance(inputs, list) and isinstance(outputs, list):
        return _Raw(inputs, outputs, name)
    for inner in FIELDS:
        if inner in value:
            return _unpack(value[inner], f"{field}.{inner}", name)
    raise RowError(field, f"must have lists `inputs` and `outputs`, has {', '.join(sorted(value)) or 'nothing'}")


def _unpack_list(cases: list[Any], field: str, fn_name: str) -> _Raw:
    name, kinds = fn_name, set()
    for n, case in enumerate(cases):
        if not isinstance(case, dict) or not {"input", "output"} <= case.keys():
            raise RowError(f"{field}[{n}]", "must be an object with `input` and `output`")
        name = name or _name(case, f"{field}[{n}]")
        kinds.add(case.get("testtype") or case.get("type"))
    if not kinds <= {*FUNCTION_TYPES, *STDIN_TYPES, None}:
        known = ", ".join(sorted(FUNCTION_TYPES | STDIN_TYPES))
        raise RowError(field, f"types of tests must be of {known}, got {sorted(map(str, kinds))}")
    if kinds & FUNCTION_TYPES and not name:
        raise RowError(field, "its tests call a function, and nothing names it: give fn_name")
    if kinds & STDIN_TYPES:
        if kinds & FUNCTION_TYPES:
            raise RowError(field, "some tests call a function, others read standard input")
        name = ""
    return _Raw([case["input"] for case in cases], [case["output"] for case in cases], name)


def _name(value: dict[str, Any], field: str) -> str:
    """The function's name in an object, or in the `metadata` in it."""
    metadata = value.get("metadata")
    inner = metadata if isinstance(metadata, dict) else {}
    for name in (value.get("fn_name"), value.get("func_name"), inner.get("func_name"), inner.get("fn_name")):
        if name is not None and not isinstance(name, str):
            raise RowError(f"{field}.fn_name", f"must be a string, got {type(name).__name__}")
        if name:
            return name
    return ""


def _lines(value: object, field: str) -> str:
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    if not isinstance(value, str):
        raise RowError(field, f"must be text, as no fn_name is given, got {type(value).__name__}")
    return value


def _written_calls(raw: _Raw, field: str) -> Cases:
    outputs = [_written(value, f"{field}.outputs[{n}]") for n, value in enumerate(raw.outputs)]
    literals = [line for text in raw.inputs for line in text.split("\n") if text] + outputs
    encoding = Encoding.JSON
    if not all(_is_json(literal) for literal in literals) and all(_is_python(literal) for literal in literals):
        encoding = Encoding.PYLITERAL
    tests = tuple(TestCase(given, expected) for given, expected in zip(raw.inputs, outputs, strict=True))
    return Cases(tests, IoMode.FUNCTIONAL, encoding, raw.fn_name)


def _written(value: object, field: str) -> str:
    """An expected value beside inputs that are texts: a text as well, as a rule."""
    return value if isinstance(value, str) else _dumped(value, field)


def _parsed_calls(raw: _Raw, field: str) -> Cases:
    outputs = raw.outputs
    if all(isinstance(value, list) and len(value) == 1 for value in outputs):
        outputs = [value[0] for value in outputs]
    tests = []
    for n, (arguments, expected) in enumerate(zip(raw.inputs, outputs, strict=True)):
        if not isinstance(arguments, list):
            raise RowError(f"{field}.inputs[{n}]", f"must be a list of arguments, got {type(arguments).__name__}")
        lines = [_dumped(argument, f"{field}.inputs[{n}]") for argument in arguments]
        tests.append(TestCase("\n".join(lines), _dumped(expected, f"{field}.outputs[{n}]")))
    return Cases(tuple(tests), IoMode.FUNCTIONAL, Encoding.JSON, raw.fn_name)


def _dumped(value: object, field: str) -> str:
    try:
        return json.dumps(value)
    except (RecursionError, ValueError) as error:
        raise RowError(field, f"cannot be written as JSON: {error}") from error


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_python(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return True


def first_solution(solutions: Sequence[object]) -> str:
    """The first of a set's solutions, out of its fence."""
    texts = [text for text in solutions if isinstance(text, str) and text.strip()]
    return unfenced(texts[0]) if texts else ""


def unfenced(text: str) -> str:
    """The code of a text that is one fenced block, else the text."""
    lines = text.strip().split("\n")
    fenced = len(lines) > 1 and lines[0].startswith("```") and lines[-1].strip() == "```"
    return "\n".join(lines[1:-1]) if fenced else text
