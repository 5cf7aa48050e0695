"""The journal: the only truth of a run. One record per line, only ever appended, no times in it.

A line is `{"schema": 1, "sum": "...", "record": {...}}`. Its sum is taken over the sum of the line before and the
bytes of the record, so a line that was changed, lost or moved is found. What a crash can leave is a torn last line: it is
dropped, with a note, when the journal is next opened.
"""

import fcntl
import hashlib
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias

import msgspec

from gasp_rl.config import RunConfig
from gasp_rl.errors import RunError
from gasp_rl.rollout import Evaluation, Iteration

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class GoalpostText:
    """The words of a goalpost, so that a report needs no problem file."""

    id: str
    statement: str
    source: str = ""
    difficulty: str = ""


@dataclass(frozen=True, slots=True)
class Digests:
    """SHA-256 of everything outside the settings that decides a run; empty where a run has no such part."""

    prompts: str = ""
    embedder: str = ""
    model: str = ""
    goalposts: str = ""
    train: str = ""
    validation: str = ""


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The first record."""

    config: RunConfig
    package: str
    """Version of gasp-rl."""
    digests: Digests = Digests()
    goalposts: tuple[GoalpostText, ...] = ()


class IterationRecord(msgspec.Struct, frozen=True, tag="iteration"):
    iteration: Iteration


class EvaluationRecord(msgspec.Struct, frozen=True, tag="evaluation"):
    evaluation: Evaluation


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The run did all it was asked to."""

    reason: str = ""


class Stopped(msgspec.Struct, frozen=True, tag="stopped"):
    """The run ended early; what it had written is whole."""

    reason: str


Record: TypeAlias = Started | IterationRecord | EvaluationRecord | Finished | Stopped


@dataclass(frozen=True, slots=True)
class Journal:
    """What a run did, in order."""

    records: tuple[Record, ...] = ()
    notes: tuple[str, ...] = ()
    """What was repaired on reading, in words."""

    @property
    def started(self) -> Started | None:
        return next((r for r in self.records if isinstance(r, Started)), None)

    @property
    def iterations(self) -> tuple[Iteration, ...]:
        return tuple(r.iteration for r in self.records if isinstance(r, IterationRecord))

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        return tuple(r.evaluation for r in self.records if isinstance(r, EvaluationRecord))

    @property
    def ending(self) -> Finished | Stopped | None:
        """How the run ended; None while it runs, or where it was killed."""
        last = self.records[-1] if self.records else None
        return last if isinstance(last, Finished | Stopped) else None


def read_journal(path: Path) -> Journal:
    """Read a journal that may still be growing. Nothing is changed on disk."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error

    journal, _ = _read(data, path)
    return journal


class JournalWriter:
    """Appends records, each durable when `append` returns. One writer at a time: the file is locked."""

    def __init__(self, path: Path) -> None:
        """Open or create the journal and drop what a crash left torn; `self.journal` is what it holds by then."""
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunError(f"{path} cannot be opened: {error.strerror}") from error

        try:
            self._lock()
            self.journal, self._marks = _read(path.read_bytes(), path)
            self._cut()
            _sync_directory(path.parent)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, record: Record) -> None:
        """Write one record. Afterwards it is on disk whole, or, if this raises, not at all."""
        mark = self._marks[-1]
        line, checksum = _encode(record, mark.sum)

        try:
            self._cut()  # an interrupt may have kept the cut below from happening
            try:
                _write_all(self._file, line)
                os.fsync(self._file)
                self._marks.append(_Mark(mark.end + len(line), checksum))
            finally:
                self._cut()
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written: {error.strerror}. Its {self.records} records are intact; "
                "make room there or use another --out"
            ) from error

    @property
    def records(self) -> int:
        return len(self._marks) - 1

    @property
    def checksum(self) -> str:
        """Of the last record, and so of all."""
        return self._marks[-1].sum

    def holds(self, records: int, checksum: str) -> bool:
        """Whether the first so many records are those that this checksum is of."""
        return records <= self.records and self._marks[records].sum == checksum

    def rewind(self, records: int) -> None:
        """Keep the first so many records and go on from there."""
        if not 0 <= records <= self.records:
            raise RunError(f"{self.path} has {self.records} records, cannot rewind to {records}")
        del self._marks[records + 1 :]
        self.journal = Journal(self.journal.records[:records], self.journal.notes)
        self._cut()

    def close(self) -> None:
        os.close(self._file)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"{self.path} is being written by another process; wait for it or use another --out"
            ) from error

    def _cut(self) -> None:
        """Leave nothing behind the last whole record."""
        end = self._marks[-1].end
        if os.fstat(self._file).st_size != end:
            os.ftruncate(self._file, end)
            os.fsync(self._file)


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a record ends, and the sum that the next one continues."""

    end: int
    sum: str


_START = _Mark(0, "")

_WHOLE_OR_TORN = re.compile(rb"[^\n]*\n|[^\n]+$")


class _Line(msgspec.Struct):
    schema: int
    sum: str
    record: msgspec.Raw


_line_decoder = msgspec.json.Decoder(_Line)
_record_decoder = msgspec.json.Decoder(Record, strict=False)  # lax for the texts "nan" and "inf", see _storable


def _encode(record: Record, previous: str) -> tuple[bytes, str]:
    body = msgspec.json.encode(_storable(msgspec.to_builtins(record)))
    checksum = _checksum(previous, body)
    return msgspec.json.encode(_Line(SCHEMA, checksum, msgspec.Raw(body))) + b"\n", checksum


def _checksum(previous: str, body: bytes) -> str:
    return hashlib.sha256(previous.encode() + body).hexdigest()[:16]


def _storable(value: object) -> object:
    """The value with what JSON cannot hold changed: numbers that are not finite become text, lone surrogates, which a
    model may well print, become question marks.
    """
    match value:
        case dict():
            return {key: _storable(item) for key, item in value.items()}
        case list() | tuple():
            return [_storable(item) for item in value]
        case float() if not math.isfinite(value):
            return str(value)
        case str() if not value.isascii():
            return value.encode("utf-8", "replace").decode() if _has_surrogates(value) else value
        case _:
            return value


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


def _read(data: bytes, path: Path) -> tuple[Journal, list[_Mark]]:
    """All whole records and where each ends. A last line that cannot be read is left out; any other is an error."""
    lines = _WHOLE_OR_TORN.findall(data)
    records: list[Record] = []
    marks = [_START]
    for number, line in enumerate(lines, start=1):
        try:
            record, checksum = _decode(line, marks[-1].sum)
        except _NewerSchemaError as error:
            raise RunError(
                f"{path} line {number} has schema {error}, this gasp-rl reads {SCHEMA}: use a newer one"
            ) from error
        except (msgspec.MsgspecError, ValueError) as error:
            if number < len(lines):
                raise RunError(f"{path} line {number} is corrupt ({error}); restore the file from a copy") from error
            note = f"the last record (line {number}) was incomplete and is left out: {error}"
            return Journal(tuple(records), (note,)), marks
        records.append(record)
        marks.append(_Mark(marks[-1].end + len(line), checksum))
    return Journal(tuple(records)), marks


class _NewerSchemaError(Exception):
    pass


def _decode(line: bytes, previous: str) -> tuple[Record, str]:
    if not line.endswith(b"\n"):
        raise ValueError("it has no end")
    read = _line_decoder.decode(line)
    if read.schema > SCHEMA:
        raise _NewerSchemaError(read.schema)
    if read.sum != _checksum(previous, bytes(read.record)):
        raise ValueError("its checksum does not fit")
    record: Record = _record_decoder.decode(read.record)
    return record, read.sum


def _write_all(file: int, data: bytes) -> None:
    """One write, unless the system takes only part of it."""
    while data:
        data = data[os.write(file, data) :]


def _sync_directory(path: Path) -> None:
    """Make a new file's name durable too."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
