"""Cut problem files into parts, by date or at random. One row in memory at a time.

By date the windows are half-open, so that an instant is in one part only. The paper's (arXiv:2603.15957 §3): train
before 2024-08-01, test from 2024-10-01 until 2025-02 inclusive; what lies between is ours for validation.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, TypeAlias

import msgspec

from gasp_rl.config import ReadingConfig, require
from gasp_rl.errors import ConfigError, ProblemFileError
from gasp_rl.problem import Problem
from gasp_rl.problems.forms.base import Excluded, moment
from gasp_rl.problems.jsonl import Malformed, complaint, read_rows
from gasp_rl.streams import stream


class Part(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    LATER = "later"
    """After the test window: counted, never written."""
    UNDATED = "undated"
    """Without a date: counted, never written."""


WRITTEN = (Part.TRAIN, Part.VALIDATION, Part.TEST)

PUBLISHED = {Part.TRAIN: 601, Part.TEST: 216}
"""Problems of LiveCodeBench in the paper's windows, by its own count."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Where one part ends and the next begins: dates, or dates and times, in UTC."""

    validation_from: str = "2024-08-01"
    """Before it: train; from it on: validation."""
    test_from: str = "2024-10-01"
    """From it on: test."""
    test_until: str = "2025-03-01"
    """From it on: neither."""

    def __post_init__(self) -> None:
        validation, test, end = self._cuts
        require(validation <= test, "test-from", f"{self.validation_from} or later", self.test_from)
        require(test <= end, "test-until", f"{self.test_from} or later", self.test_until)

    @property
    def _cuts(self) -> tuple[datetime, datetime, datetime]:
        return (
            _instant("validation-from", self.validation_from),
            _instant("test-from", self.test_from),
            _instant("test-until", self.test_until),
        )

    def part(self, date: str) -> Part:
        when = moment(date)
        if when is None:
            return Part.UNDATED
        validation, test, end = self._cuts
        if when < validation:
            return Part.TRAIN
        if when < test:
            return Part.VALIDATION
        return Part.TEST if when < end else Part.LATER


def _instant(name: str, date: str) -> datetime:
    when = moment(date)
    if when is None:
        raise ConfigError(f"{name} must be a date like 2024-08-01, got {date!r}")
    return when


PartOf: TypeAlias = Callable[[Problem | Excluded], Part]


def by_date(windows: Windows) -> PartOf:
    return lambda row: windows.part(row.date)


def at_random(share: float, seed: int) -> PartOf:
    """About that share becomes validation. Each id is drawn alone: it is in the same part whatever else is in the file."""
    return lambda row: Part.VALIDATION if stream(seed, "split", row.id).random() < share else Part.TRAIN


@dataclass(slots=True)
class Cut:
    """How many problems fell where."""

    problems: Counter[Part] = field(default_factory=Counter)
    """Well-formed rows of each part, those left out included."""
    excluded: Counter[Part] = field(default_factory=Counter)
    """Those of them that are left out: counted, never written."""
    malformed: list[tuple[Path, Malformed]] = field(default_factory=list)


def cut(files: Sequence[Path], part_of: PartOf, reading: ReadingConfig, out: Path | None) -> Cut:
    """Count the parts and, if `out` is given, write them there as train.jsonl, validation.jsonl, test.jsonl.

    All or nothing: a file appears under its name when every row was read. Parts of no problem are not written.
    """
    found = Cut()
    seen: dict[str, Path] = {}
    with _part_files(out) as write:
        for file in files:
            for row in read_rows(file, errata=reading.errata):
                if isinstance(row.found, Malformed):
                    found.malformed.append((file, row.found))
                    if not reading.skip_malformed:
                        raise complaint(file, row.found)
                    continue
                if row.found.id in seen:
                    raise ProblemFileError(
                        f"{file}:{row.line}: id: {row.found.id!r} is in {seen[row.found.id]} already"
                    )
                seen[row.found.id] = file
                part = part_of(row.found)
                found.problems[part] += 1
                if isinstance(row.found, Excluded):
                    found.excluded[part] += 1
                else:
                    write(part, row.found)
    return found


@contextmanager
def _part_files(out: Path | None) -> Iterator[Callable[[Part, Problem], None]]:
    """Writes problems into their parts' files, which get their names when all went well and vanish when not."""
    encoder = msgspec.json.Encoder()
    partial: dict[Part, BinaryIO] = {}

    def write(part: Part, problem: Problem) -> None:
        if out is None or part not in WRITTEN:
            return
        if part not in partial:
            partial[part] = files.enter_context((out / f"{part}.jsonl.partial").open("wb"))
        partial[part].write(encoder.encode(problem) + b"\n")

    if out is not None:
        for path in (out / f"{part}.jsonl" for part in WRITTEN):
            if path.exists():
                raise ProblemFileError(f"{path} exists: remove it first")
        out.mkdir(parents=True, exist_ok=True)
    try:
        with ExitStack() as files:
            yield write
        for file in partial.values():
            Path(file.name).rename(Path(file.name).with_suffix(""))
    finally:
        for file in partial.values():
            Path(file.name).unlink(missing_ok=True)


def to_json(found: Cut, windows: Windows | None) -> str:
    """One object: how many fell where, and, by date in the paper's windows, how many it found itself."""
    counts: dict[str, int] = {part.value: found.problems[part] for part in Part}
    said = {
        **counts,
        "excluded": found.excluded.total(),
        "malformed": len(found.malformed),
        "windows": windows,
        "published": {part.value: n for part, n in PUBLISHED.items()} if windows == Windows() else None,
    }
    return msgspec.json.encode(said).decode()


def in_words(found: Cut, windows: Windows | None, out: Path | None) -> str:
    """The same for people, one line per part."""
    spans = _spans(windows) if windows else dict.fromkeys((Part.TRAIN, Part.VALIDATION), "")
    lines = []
    for part, span in spans.items():
        n, left_out = found.problems[part], found.excluded[part]
        line = f"{part:<11}{span:<26}{n:>6}"
        if windows == Windows() and part in PUBLISHED:
            line += f"  {'as many as' if n == PUBLISHED[part] else 'unlike'} the {PUBLISHED[part]} of the paper"
        if left_out:
            line += f"  ({left_out} left out)"
        lines.append(line)
    if found.malformed:
        path, first = found.malformed[0]
        lines.append(f"malformed  {len(found.malformed):>32}  first {complaint(path, first)}")
    if out is None:
        lines.append("Nothing was written; with --out DIR each part becomes a file.")
    else:
        written = [f"{part}.jsonl" for part in WRITTEN if found.problems[part] > found.excluded[part]]
        lines.append(f"Written to {out}: {', '.join(written) or 'nothing'}")
    return "\n".join(lines)


def _spans(windows: Windows) -> dict[Part, str]:
    return {
        Part.TRAIN: f"before {windows.validation_from}",
        Part.VALIDATION: f"{windows.validation_from} to {windows.test_from}",
        Part.TEST: f"{windows.test_from} to {windows.test_until}",
        Part.LATER: f"from {windows.test_until}",
        Part.UNDATED: "",
    }
