"""LiveCodeBench: a row of the hub's `livecodebench/code_generation_lite` (`testN.jsonl`) or `code_generation`.

Its private tests are either JSON or base64(zlib(pickle(a string of JSON))). Unpickling what was downloaded would run
whatever it says, so the pickle is never run: its opcodes are read, and only those of one pickled string are allowed.
"""

import base64
import binascii
import io
import pickletools
import zlib
from dataclasses import dataclass

import msgspec

from gasp_rl.problem import Encoding, IoMode, Problem, TestCase
from gasp_rl.problems.forms.base import Excluded, Form, Row, RowError, convert, moment, parse_json

MULTIPLE_ANSWERS, INTERACTIVE, ERRONEOUS = "multiple_answers", "interactive", "erroneous_tests"

ERRATA = {
    **dict.fromkeys((
        "abc311_c", "abc326_d", "abc327_b", "abc333_e", "abc343_e", "abc362_c", "arc185_c", "abc343_a",
        "find-words-containing-character", "find-the-peaks", "generate-binary-strings-without-adjacent-zeros",
    ), MULTIPLE_ANSWERS),
    **dict.fromkeys(("abc337_e", "abc355_e"), INTERACTIVE),
    **dict.fromkeys((
        "abc350_c", "apply-operations-to-make-string-empty", "most-frequent-ids", "arc189_a",
    ), ERRONEOUS),
}  # fmt: skip
"""Its ERRATA.md: questions that nobody can solve as they are judged, by question id or, for LeetCode's, by title."""

FREE_BYTES = 64 << 20
MAX_EXPANSION = 40
MAX_BYTES = 1 << 30
"""Private tests may expand to 64 MiB and 40 times their compressed size, at most 1 GiB: what a row costs in memory is
bounded by what it costs on disk. (Numbers in random order, the bulk of real rows, compress to a third.)"""

HARMLESS = frozenset({"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"})
STRINGS = frozenset({"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})


@dataclass(frozen=True, slots=True)
class _Test:
    input: str
    output: str
    testtype: str


@dataclass(frozen=True, slots=True)
class _Row:
    question_content: str
    platform: str
    question_id: str
    contest_date: str
    public_test_cases: str
    private_test_cases: str
    starter_code: str
    metadata: str
    difficulty: str = ""
    question_title: str = ""


@dataclass(frozen=True, slots=True)
class _Metadata:
    func_name: str = ""


def recognises(row: Row) -> bool:
    return "private_test_cases" in row or {"question_content", "contest_date"} <= row.keys()


def read(row: Row) -> Problem | Excluded:
    given = convert(row, _Row)
    if moment(given.contest_date) is None:
        raise RowError(
            "contest_date", f"must be a date like 2024-08-01 or 2024-08-01T12:30:00, got {given.contest_date!r}"
        )
    public = _tests(given.public_test_cases, "public_test_cases")
    private = given.private_test_cases
    if not private.lstrip().startswith("["):
        private = decode_private(private)
    hidden = _tests(private, "private_test_cases")
    kinds = {test.testtype for test in public + hidden}
    if not kinds <= {"stdin", "functional"} or len(kinds) > 1:
        raise RowError("testtype", f"must be 'stdin' or 'functional' for all tests of a row, got {sorted(kinds)}")

    entry_point = convert(parse_json(given.metadata or "{}", "metadata"), _Metadata, "metadata").func_name
    functional = kinds == {"functional"} if kinds else bool(entry_point)
    if functional and not entry_point:
        raise RowError("metadata", "must give func_name, as the tests call a function")
    problem = Problem(
        id=f"lcb/{given.question_id}",
        statement=given.question_content,
        public_tests=tuple(TestCase(test.input, test.output) for test in public),
        hidden_tests=tuple(TestCase(test.input, test.output) for test in hidden),
        io_mode=IoMode.FUNCTIONAL if functional else IoMode.STDIN,
        encoding=Encoding.JSON if functional else Encoding.TEXT,
        entry_point=entry_point if functional else "",
        starter_code=given.starter_code,
        source=f"LiveCodeBench {given.platform}",
        date=given.contest_date,
        difficulty=given.difficulty,
    )
    if flaw := ERRATA.get(given.question_id) or ERRATA.get(given.question_title):
        return Excluded(problem.id, f"errata: {flaw}", date=problem.date, problem=problem)
    return problem


def decode_private(text: str) -> str:
    """The JSON inside private tests that are stored packed; raises RowError for anything but one pickled string."""
    field = "private_test_cases"
    try:
        packed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RowError(field, f"neither JSON nor base64: {error}") from error

    limit = min(MAX_BYTES, FREE_BYTES + MAX_EXPANSION * len(packed))
    unpacker = zlib.decompressobj()
    try:
        pickled = unpacker.decompress(packed, limit)
    except zlib.error as error:
        raise RowError(field, f"not compressed by zlib: {error}") from error
    del packed
    if unpacker.unconsumed_tail:
        raise RowError(field, f"expands to more than {limit >> 20} MiB: refused")
    if not unpacker.eof:
        raise RowError(field, "compressed data end too early: the row was cut off")

    found: list[object] = []
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(pickled)):
            if opcode.name in STRINGS:
                found.append(argument)
            elif opcode.name not in HARMLESS | {"STOP"}:
                raise RowError(field, f"the pickle holds more than a string ({opcode.name}): refused, nothing was run")
    except (ValueError, IndexError) as error:
        raise RowError(field, f"not a pickle: {error}") from error
    if len(found) != 1 or not isinstance(found[0], str):
        raise RowError(field, f"the pickle must hold one string, holds {len(found)}")
    return found[0]


def _tests(text: str, field: str) -> list[_Test]:
    try:
        return msgspec.json.decode(text, type=list[_Test])
    except msgspec.ValidationError as error:
        reason, _, place = str(error).partition(" - at `$")
        raise RowError(f"{field}{place.rstrip('`')}", reason) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise RowError(field, f"not JSON: {error}") from error


LIVECODEBENCH = Form("livecodebench", recognises, read)
