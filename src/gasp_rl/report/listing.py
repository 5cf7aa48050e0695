"""The runs of a folder, as a page that leads to each."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from gasp_rl.report import numbers, words
from gasp_rl.report.html import Child, el, table
from gasp_rl.report.page import document, theme_button
from gasp_rl.report.text import one_line
from gasp_rl.report.words import plural
from gasp_rl.runs.journal import EvaluationRecord, IterationRecord, Journal, Record, Started


@dataclass(slots=True)
class Glance:
    """What one line says of a run."""

    changed: float = 0.0
    """When its journal last grew, in seconds since the epoch."""
    fault: str = ""
    """Why it cannot be read; empty: it can."""
    step: int = 0
    solved: set[str] = field(default_factory=set)
    started: Started | None = None
    last: Record | None = None

    def add(self, records: Iterable[Record]) -> None:
        for record in records:
            self.last = record
            match record:
                case Started():
                    self.started = record
                case IterationRecord(iteration):
                    self.step = iteration.step
                case EvaluationRecord(evaluation) if evaluation.split == numbers.GOALPOSTS and evaluation.step > 0:
                    self.solved |= set(evaluation.solved)
                case _:
                    pass
        if isinstance(self.last, IterationRecord | EvaluationRecord):
            self.last = self.started  # how a run ended is all that its last record is asked

    @property
    def standing(self) -> str:
        if self.fault:
            return self.fault
        return words.ending(Journal(tuple(record for record in (self.started, self.last) if record)))


@dataclass(frozen=True, slots=True)
class Listed:
    """A run by its path below the folder."""

    path: str
    glance: Glance


def listing(name: str, runs: Sequence[Listed], left_out: int, version: str) -> str:
    """The latest first."""
    rows: list[list[Child]] = [_row(run) for run in runs]
    head = ["run", "recipe", "iterations", "goalposts solved", "standing", "last change"]
    found = table(head, rows, label="Runs") if rows else el("p", "No runs here yet.", class_="empty")
    more = el("p", f"{plural(left_out, 'older run')} not shown.", class_="note") if left_out else None
    return _page(name, version, el("h1", f"Runs in {one_line(name, 80)}"), found, more)


def unreadable(name: str, fault: str, version: str) -> str:
    """In place of a page that cannot be made, until it can."""
    return _page(name, version, el("h1", "This run cannot be shown"), el("p", one_line(fault, 600), class_="note"))


def _page(name: str, version: str, *children: Child) -> str:
    title = f"{one_line(name, 80)} · gasp watch"
    bar = el("div", el("p", el("b", "gasp"), f" {one_line(name, 80)}", class_="run"), theme_button(), class_="bar")
    return document(title, [el("header", bar), el("main", *children, data_part="runs", class_="runs")], version)


def _row(run: Listed) -> list[Child]:
    glance = run.glance
    config = glance.started.config if glance.started else None
    goalposts = len(glance.started.goalposts) if glance.started else 0
    return [
        el("a", one_line(run.path, 80), href=f"run/{quote(run.path)}/"),
        one_line(config.recipe, 40) if config else "",
        f"{glance.step:,} of {config.steps:,}" if config else "",
        f"{len(glance.solved)} of {goalposts}" if goalposts else "",
        one_line(glance.standing, 160),
        time.strftime("%Y-%m-%d %H:%M", time.localtime(glance.changed)) if glance.changed else "",
    ]
