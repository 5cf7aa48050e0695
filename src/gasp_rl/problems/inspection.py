"""What is in a problem file: its form, counts, and what is wrong with it. One row in memory at a time."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gasp_rl.problem import Problem
from gasp_rl.problems.forms.base import Excluded, moment
from gasp_rl.problems.jsonl import Malformed, ReadRow

NOT_GIVEN = "not given"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COMMONEST = 6
"""Values named in a line."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """`gasp problems inspect --json` prints these fields."""

    format: str
    """Of most rows; empty where none is known."""
    formats: dict[str, int]
    rows: int
    problems: int
    """Well-formed rows: `usable` and `excluded`."""
    usable: int
    excluded: int
    reasons: dict[str, int]
    """Why they are excluded."""
    malformed: int
    first_malformed: Malformed | None
    sources: dict[str, int]
    """Of the usable, as all that follows."""
    difficulties: dict[str, int]
    answers: dict[str, int]
    """How an answer is given and compared."""
    public_tests: tuple[int, int] | None
    """Fewest and most."""
    hidden_tests: tuple[int, int] | None
    without_hidden: int
    dates: tuple[str, str] | None
    """Earliest and latest."""
    references: int
    """That come with a program known to solve them."""


def inspect(rows: Iterable[ReadRow]) -> Inspection:
    formats, reasons, sources, difficulties, answers = (Counter[str]() for _ in range(5))
    public, hidden = Counter[int](), Counter[int]()
    dates: set[str] = set()
    first: Malformed | None = None
    malformed = references = 0
    for row in rows:
        match row.found:
            case Malformed():
                malformed += 1
                first = first or row.found
            case Excluded(reason=reason):
                formats[row.form] += 1
                reasons[reason] += 1
            case Problem() as problem:
                formats[row.form] += 1
                sources[problem.source or NOT_GIVEN] += 1
                difficulties[problem.difficulty or NOT_GIVEN] += 1
                answers[f"{problem.io_mode.value}, {problem.compare.kind.value}"] += 1
                public[len(problem.public_tests)] += 1
                hidden[len(problem.hidden_tests)] += 1
                references += bool(problem.reference)
                dates |= {problem.date} if problem.date else set()
    usable, excluded = public.total(), reasons.total()
    return Inspection(
        format=formats.most_common(1)[0][0] if formats else "",
        formats=dict(formats.most_common()),
        rows=usable + excluded + malformed,
        problems=usable + excluded,
        usable=usable,
        excluded=excluded,
        reasons=dict(reasons.most_common()),
        malformed=malformed,
        first_malformed=first,
        sources=dict(sources.most_common()),
        difficulties=dict(difficulties.most_common()),
        answers=dict(answers.most_common()),
        public_tests=_range(public),
        hidden_tests=_range(hidden),
        without_hidden=hidden[0],
        dates=(min(dates, key=_when), max(dates, key=_when)) if dates else None,
        references=references,
    )


def in_words(file: Path, found: Inspection) -> str:
    """The same for people, a few lines."""
    of_form = f" of form {found.format}" if found.format else ""
    lines = [f"{file}: {_plural(found.problems, 'problem')}{of_form}, {found.excluded} left out"]
    if len(found.formats) > 1:
        lines.append(_counted("form", found.formats))
    lines += [
        _counted(title, counts)
        for title, counts in (
            ("source", found.sources),
            ("difficulty", found.difficulties),
            ("answer", found.answers),
            ("left out", found.reasons),
        )
        if counts
    ]
    if found.public_tests and found.hidden_tests:
        shown, hidden = (f"{least} to {most}" for least, most in (found.public_tests, found.hidden_tests))
        without = f"{_plural(found.without_hidden, 'problem')} without a hidden one"
        lines.append(f"  tests      {shown} shown, {hidden} hidden; {without}")
    if found.dates:
        lines.append(f"  dates      {found.dates[0]} to {found.dates[1]}")
    if found.usable:
        lines.append(f"  reference  {found.references} with a program known to solve them")
    if first := found.first_malformed:
        lines.append(
            f"  malformed  {_plural(found.malformed, 'row')}, first line {first.line}: {first.field}: {first.reason}"
        )
    return "\n".join(lines)


def _counted(title: str, counts: dict[str, int]) -> str:
    shown = [f"{n} {value}" for value, n in list(counts.items())[:COMMONEST]]
    more = len(counts) - len(shown)
    return f"  {title:<11}" + "; ".join(shown) + (f"; {more} more kinds" if more > 0 else "")


def _plural(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _when(date: str) -> tuple[datetime, str]:
    return moment(date) or EPOCH, date


def _range(counts: Counter[int]) -> tuple[int, int] | None:
    return (min(counts), max(counts)) if counts else None
