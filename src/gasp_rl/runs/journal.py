"""The journal: the only truth of a run. One record per line, only ever appended, no times in it.

How a line is written, and how a changed or lost one is found, is in `lines`. What a crash can leave is a torn last
line: it is dropped, with a note, when the journal is next opened.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Self, TypeAlias

import msgspec

from gasp_rl.config import RunConfig
from gasp_rl.errors import RunError
from gasp_rl.rollout import Answer, Draws, Evaluation, Iteration
from gasp_rl.runs.durable import DurableFile
from gasp_rl.runs.lines import SCHEMA, Line, NewerSchemaError, decode_line, encode_line


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
    held_out: str = ""


class Started(msgspec.Struct, frozen=True, tag="started"):
    """The first record; and again where a run goes on with other settings than before."""

    config: RunConfig
    package: str
    """Version of gasp-rl."""
    digests: Digests = Digests()
    goalposts: tuple[GoalpostText, ...] = ()


class IterationRecord(msgspec.Struct, frozen=True, tag="iteration"):
    """Its draws and the tries of its phases are written as the line's trace: `read_whole` gives them back."""

    iteration: Iteration
    draws: tuple[Draws, ...] = ()
    """All that was sampled, in order."""


class EvaluationRecord(msgspec.Struct, frozen=True, tag="evaluation"):
    evaluation: Evaluation


class Course(StrEnum):
    """How a run goes on differently."""

    STOP = "stop"
    """It is evaluated, exported and finished now."""
    LENIENT = "lenient"
    """From the next iteration on, a proposal that cannot be read or run costs no more than one outside its band."""
    MAPPING = "mapping"
    """From the next iteration on, lemmas vary the mapping only, not instances and representation."""


COURSES = {
    Course.STOP: "the run ends here",
    Course.LENIENT: "from now on what cannot be read or run costs no more than what misses its band",
    Course.MAPPING: "from now on lemmas vary the mapping only",
}
"""In words."""


class Decided(msgspec.Struct, frozen=True, tag="decided"):
    """A budget or the health monitor changed the run's course, after an iteration."""

    step: int
    course: Course
    reason: str

    def __str__(self) -> str:
        return f"{COURSES[self.course]}: {self.reason}"


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The run did all it was asked to."""

    reason: str = ""
    """Why after fewer iterations than its settings say; empty if not."""


class Stopped(msgspec.Struct, frozen=True, tag="stopped"):
    """The run ended early; what it had written is whole."""

    reason: str


Record: TypeAlias = Started | IterationRecord | EvaluationRecord | Decided | Finished | Stopped


@dataclass(frozen=True, slots=True)
class Journal:
    """What a run did, in order."""

    records: tuple[Record, ...] = ()
    notes: tuple[str, ...] = ()
    """What was repaired on reading, in words."""

    @property
    def started(self) -> Started | None:
        """What the run began with, or last went on with."""
        return next((r for r in reversed(self.records) if isinstance(r, Started)), None)

    @property
    def iterations(self) -> tuple[Iteration, ...]:
        return tuple(r.iteration for r in self.records if isinstance(r, IterationRecord))

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        return tuple(r.evaluation for r in self.records if isinstance(r, EvaluationRecord))

    @property
    def decided(self) -> tuple[Decided, ...]:
        return tuple(r for r in self.records if isinstance(r, Decided))

    @property
    def ending(self) -> Finished | Stopped | None:
        """How the run ended; None while it runs, or where it was killed."""
        last = self.records[-1] if self.records else None
        return last if isinstance(last, Finished | Stopped) else None


def read_journal(path: Path) -> Journal:
    """Read a journal that may still be growing, without its traces. Nothing is changed on disk."""
    journal, _ = _gather(path)
    return journal


def read_records(path: Path, notes: list[str]) -> Iterator[Record]:
    """The records one by one, without their traces; what was repaired on reading is added to the notes."""
    for line in _lines(path, notes):
        yield line.record


class JournalTail:
    """Reads a journal that grows, from where it last stopped, without its traces. It takes no lock and changes nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark = _START
        self._records = 0
        self._last = b""
        """The end of the last line that was read, to know that it is still there."""

    def read(self) -> list[Record] | None:
        """What has come since; None where the run went back behind that, so that all has to be read again."""
        if not self._stands():
            return None
        if not self.path.exists():
            return []
        records: list[Record] = []
        for line in _lines(self.path, [], self._mark, self._records):
            records.append(line.record)
            self._mark = _Mark(line.end, line.content.sum)
        if records:
            self._records += len(records)
            with self.path.open("rb") as file:
                self._last = _before(file, self._mark.end)
        return records

    def _stands(self) -> bool:
        """Whether what was read is still what the file begins with: each line holds the sum of all before it."""
        if not self._records:
            return True
        try:
            with self.path.open("rb") as file:
                return _before(file, self._mark.end) == self._last
        except OSError:
            return False


def _before(file: BinaryIO, end: int) -> bytes:
    """Some bytes of a file before a place in it."""
    start = max(0, end - (1 << 16))
    file.seek(start)
    return file.read(end - start)


def read_whole(path: Path) -> Iterator[Record]:
    """The records one by one, with their traces, which are too much to hold together."""
    for line in _lines(path, notes=[]):
        yield _whole(line)


def written_and_read(record: IterationRecord) -> IterationRecord:
    """The record as a journal would give it back."""
    line, _ = encode_line(*_parted(record), "")
    content = decode_line(line, "")
    whole = msgspec.convert(content.record, IterationRecord, strict=False)
    return _with_trace(whole, msgspec.convert(content.trace, _Trace, strict=False))


class JournalWriter:
    """Appends records, each durable when `append` returns. One writer at a time: the file is locked."""

    def __init__(self, path: Path) -> None:
        """Open or create the journal and drop what a crash left torn; `self.journal` is what it holds by then."""
        self.path = path
        self._follower: Callable[[], None] = lambda: None
        self._file = DurableFile(path)
        try:
            self.journal, self._marks = _gather(path)
            self._file.keep(self._marks[-1].end)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, record: Record) -> None:
        """Write one record. Afterwards it is on disk whole, or, if this raises, not at all."""
        mark = self._marks[-1]
        line, checksum = encode_line(*_parted(record), mark.sum)

        try:
            self._file.keep(mark.end)  # an interrupt may have come between the last record and its mark
            self._file.append(line)
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written: {error.strerror}. Its {self.records} records are intact; "
                f"make room there, then go on with: gasp resume {self.path.parent}"
            ) from error
        self._marks.append(_Mark(self._file.end, checksum))
        self._follower()

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

    def since(self, records: int) -> Iterator[tuple[Record, str]]:
        """The records after the first so many, with their traces, each with its checksum."""
        for line in _lines(self.path, [], self._marks[records], records):
            yield _whole(line), line.content.sum

    def follow(self, follower: Callable[[], None]) -> None:
        """Have this called after each record that is appended, once it is durable."""
        self._follower = follower

    def rewind(self, records: int) -> None:
        """Keep the first so many records and go on from there."""
        if not 0 <= records <= self.records:
            raise RunError(f"{self.path} has {self.records} records, cannot rewind to {records}")
        del self._marks[records + 1 :]
        self.journal = Journal(self.journal.records[:records], self.journal.notes)
        self._file.keep(self._marks[-1].end)

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a record ends, and the sum that the next one continues."""

    end: int
    sum: str


_START = _Mark(0, "")


class _Trace(msgspec.Struct, frozen=True):
    draws: tuple[Draws, ...]
    tries: tuple[tuple[Answer, ...], ...]
    """Of each phase."""


def _parted(record: Record) -> tuple[Record, _Trace | None]:
    """What most readers want, and the rest."""
    if not isinstance(record, IterationRecord):
        return record, None
    phases = record.iteration.phases
    trace = _Trace(record.draws, tuple(phase.tries for phase in phases))
    bare = replace(record.iteration, phases=tuple(replace(phase, tries=()) for phase in phases))
    return IterationRecord(bare), trace


def _with_trace(record: IterationRecord, trace: _Trace) -> IterationRecord:
    phases = [replace(p, tries=tries) for p, tries in zip(record.iteration.phases, trace.tries, strict=True)]
    return IterationRecord(replace(record.iteration, phases=tuple(phases)), trace.draws)


@dataclass(frozen=True, slots=True)
class _Numbered:
    end: int
    """Bytes of the file up to here."""
    content: Line
    record: Record


def _whole(line: _Numbered) -> Record:
    record, kept = line.record, line.content.trace
    if isinstance(record, IterationRecord) and kept:
        return _with_trace(record, msgspec.convert(kept, _Trace, strict=False))
    return record


def _gather(path: Path) -> tuple[Journal, list[_Mark]]:
    """All whole records and where each ends."""
    notes: list[str] = []
    records: list[Record] = []
    marks = [_START]
    for line in _lines(path, notes):
        records.append(line.record)
        marks.append(_Mark(line.end, line.content.sum))
    return Journal(tuple(records), tuple(notes)), marks


def _lines(path: Path, notes: list[str], after: _Mark = _START, records: int = 0) -> Iterator[_Numbered]:
    """Each line that is whole, `after` the first so many. A last one that cannot be read is left out and noted; any other
    is an error.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        end, checksum, step = after.end, after.sum, 0
        file.seek(end)
        for number, line in enumerate(file, start=records + 1):
            try:
                content = decode_line(line, checksum)
                record: Record = msgspec.convert(content.record, Record, strict=False)
            except NewerSchemaError as error:
                raise RunError(
                    f"{path} line {number} has schema {error}, this gasp-rl reads {SCHEMA}: use a newer one"
                ) from error
            except (msgspec.MsgspecError, ValueError) as error:
                if file.read(1):
                    raise _corrupt(path, number, step, error) from error
                notes.append(f"the last record (line {number}) was incomplete and is left out: {error}")
                return
            end, checksum = end + len(line), content.sum
            step = record.iteration.step if isinstance(record, IterationRecord) else step
            yield _Numbered(end, content, record)


def _corrupt(path: Path, number: int, step: int, cause: Exception) -> RunError:
    whole = f"The {number - 1} lines before it are whole" + (f", up to iteration {step}" if step else "")
    cut = f"head -n {number - 1} {path.name} > whole && mv whole {path.name}"
    return RunError(
        f"{path} line {number} is corrupt ({cause}). {whole}. Restore the file from a copy, or give up the rest: "
        f"cd {path.parent} && {cut}, then gasp resume {path.parent}"
    )
