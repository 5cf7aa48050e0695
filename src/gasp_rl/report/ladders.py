"""The heart of the report: for each goalpost, what the teacher made of it, rung by rung, and when it fell.

It is kept compressed inside the page and unpacked by it when somebody looks.
"""

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from gasp_rl.report import numbers
from gasp_rl.report.story import Entry, Shelf, Story
from gasp_rl.report.text import one_line, shortened, visible
from gasp_rl.rollout import Axis, ProblemScore, Rejection
from gasp_rl.runs.journal import GoalpostText, Journal

ROOM = 3_600_000
"""Characters of packs on a page, at most."""

PASSES = 3
"""Attempts to fill the room."""

AXES = {Axis.IO: "varies the instances", Axis.F: "varies the function"}

WHY = {
    Rejection.MALFORMED: "could not be read",
    Rejection.UNSAFE: "not allowed",
    Rejection.INVALID: "failed when run",
    Rejection.NONDETERMINISTIC: "not the same twice",
    Rejection.CONTAMINATED: "too like an evaluation problem",
    Rejection.QUARANTINED: "too like an evaluation problem: set aside",
    Rejection.DUPLICATE: "nothing new",
    Rejection.TOO_HARD: "too hard",
    Rejection.TOO_EASY: "too easy",
    Rejection.SANDBOX_FAULT: "lost to a fault of ours",
}


class Outline(msgspec.Struct, frozen=True, omit_defaults=True):
    """A goalpost as the list shows it."""

    id: str
    gist: str = ""
    difficulty: str = ""
    free: bool = False
    """Not a goalpost: proposals that nothing guided."""
    draws: int = 0
    """Of the trained model."""
    solves: int = 0
    first: int = 0
    """Iteration of the first solve; 0: none."""
    written: dict[str, int] = {}
    accepted: dict[str, int] = {}
    axes: dict[str, int] = {}
    why: dict[str, int] = {}
    height: int = 0
    """Rungs of its highest ladder."""
    left_out: int = 0
    """Proposals that are counted but whose text is not on the page."""


class Learned(msgspec.Struct, frozen=True, omit_defaults=True):
    """One update, as a ladder shows it."""

    phase: str
    reward: float | None
    rollouts: int
    tokens: int
    skipped: bool = False


class Index(msgspec.Struct, frozen=True):
    """What the page unpacks first."""

    goalposts: tuple[Outline, ...]
    rungs: tuple[str, ...]
    axes: dict[str, str]
    why: dict[str, str]
    public_pairs: int
    updates: dict[str, tuple[Learned, ...]]
    """By iteration."""
    iterations: int


class Pack(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the page unpacks where somebody looks at a goalpost."""

    statement: str
    source: str
    history: tuple[tuple[int, int, int], ...]
    """Iteration, confirmed solves, draws, of each evaluation."""
    proof: str
    """A program of the first evaluation that solved it."""
    cards: tuple[msgspec.Raw, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """Everything written for one goalpost, the most telling first."""

    goalpost: GoalpostText
    shelf: Shelf
    history: Sequence[tuple[int, ProblemScore]]
    entries: tuple[Entry, ...]
    height: int

    @property
    def solves(self) -> int:
        return sum(score.confirmed for step, score in self.history if step > 0)


def families(story: Story, journal: Journal) -> list[Family]:
    """One per goalpost, those that fell first, then by how high their ladders reach; after one per kind of free proposal."""
    known = {g.id: g for g in (journal.started.goalposts if journal.started else ())}
    history = numbers.score_history(journal)
    ids = dict.fromkeys([*known, *history, *(goalpost for goalpost in story.shelves if goalpost)])
    found = [_family(known.get(i, GoalpostText(i, "")), story.shelves.get(i, Shelf()), history.get(i, ())) for i in ids]
    guided = sorted(found, key=lambda f: (-f.solves, -f.height))
    return [_family(GoalpostText("", ""), _of_rung(story.shelves[""], rung), ()) for rung in _free(story)] + guided


def _free(story: Story) -> list[str]:
    return list(story.shelves[""].written) if "" in story.shelves else []


def _of_rung(shelf: Shelf, rung: str) -> Shelf:
    """The part of one kind, the latest first."""
    accepted, rejected = (
        [e for e in reversed(entries) if e.rung == rung] for entries in (shelf.accepted, shelf.rejected)
    )
    part = Shelf(accepted[:200], rejected[:40])
    part.written[rung], part.kept[rung] = shelf.written[rung], shelf.kept[rung]
    for entry in rejected:
        if entry.why:
            part.why[entry.why.value] += 1
    return part


def _family(goalpost: GoalpostText, shelf: Shelf, history: Sequence[tuple[int, ProblemScore]]) -> Family:
    above: dict[str, list[Entry]] = {}
    for entry in shelf.accepted:
        above.setdefault(entry.parent, []).append(entry)
    heights: dict[str, int] = {}
    for entry in reversed(shelf.accepted):  # what is made from it comes later
        heights[entry.id] = 1 + max((heights.get(child.id, 0) for child in above.get(entry.id, ())), default=0)
    if not goalpost.id:
        return Family(goalpost, shelf, history, (*shelf.accepted, *shelf.rejected), 0)

    failed: dict[tuple[str, int], list[Entry]] = {}
    for entry in shelf.rejected:
        failed.setdefault((entry.parent, entry.step), []).append(entry)
    ordered: list[Entry] = []
    climbed: set[str] = set()

    def climb(entry: Entry) -> None:
        """It, its failed siblings, and what stands on it."""
        if entry.id in climbed:
            return
        climbed.add(entry.id)
        ordered.append(entry)
        ordered.extend(failed.pop((entry.parent, entry.step), ()))
        for child in sorted(above.get(entry.id, ()), key=lambda c: -c.reward):
            climb(child)
        ordered.extend(failed.pop((entry.id, entry.step), ()))

    roots = [entry for entry in shelf.accepted if entry.parent == goalpost.id]
    for root in sorted(roots, key=lambda r: (-heights[r.id], -r.reward, -r.step)):
        climb(root)
    for entry in shelf.accepted:
        climb(entry)  # those whose parent is not known
    ordered.extend(entry for entries in reversed(failed.values()) for entry in entries)
    return Family(goalpost, shelf, history, tuple(ordered), max(heights.values(), default=0))


@dataclass(frozen=True, slots=True)
class Packed:
    """All of it, ready for the page."""

    index: str
    packs: tuple[str, ...]
    goalposts: int
    left_out: int
    """Proposals whose texts are not on the page."""
    whole: bool
    """Nothing was left out for want of room."""

    @property
    def size(self) -> int:
        return len(self.index) + sum(map(len, self.packs))


def packed(story: Story, journal: Journal, room: int = ROOM) -> Packed:
    """Index and packs as base64 of deflated JSON. Each goalpost gets a fair share of the room; what is left out is counted."""
    found = families(story, journal)
    wanted = [sum(len(entry.packed) for entry in family.entries) for family in found]
    share, best = float(room), _filled(found, [0.0] * len(found), journal)
    for _ in range(PASSES):
        filled = _filled(found, _shares(wanted, share), journal)
        if filled.size <= room:
            best = filled
        if filled.size <= room and (filled.whole or filled.size > 0.9 * room):
            break
        share *= 0.95 * room / filled.size  # cards that are packed together take less than they do alone, but how much?
    return best


def _filled(found: Sequence[Family], shares: Sequence[float], journal: Journal) -> Packed:
    kept = [_within(family.entries, share) for family, share in zip(found, shares, strict=True)]
    packs = tuple(_encoded(_pack(family, entries)) for family, entries in zip(found, kept, strict=True))
    left = [sum(f.shelf.written.values()) - len(entries) for f, entries in zip(found, kept, strict=True)]
    index = _encoded(_index(tuple(_outline(family, n) for family, n in zip(found, left, strict=True)), journal))
    whole = sum(map(len, kept)) == sum(len(family.entries) for family in found)
    return Packed(index, packs, len(found), sum(left), whole)


def _shares(wanted: Sequence[int], room: float) -> list[float]:
    """What each may have: all that it wants where there is enough for everybody, else as much as any other."""
    shares = [0.0] * len(wanted)
    for done, place in enumerate(sorted(range(len(wanted)), key=lambda i: wanted[i])):
        shares[place] = min(wanted[place], room / (len(wanted) - done))
        room -= shares[place]
    return shares


def _within(entries: Sequence[Entry], share: float) -> Sequence[Entry]:
    for place, entry in enumerate(entries):
        share -= len(entry.packed)
        if share < 0:
            return entries[:place]
    return entries


def _encoded(value: Index | Pack) -> str:
    return base64.b64encode(zlib.compress(msgspec.json.encode(value), 6)).decode()


def _pack(family: Family, entries: Sequence[Entry]) -> Pack:
    proof = next((s.program for step, s in family.history if step > 0 and s.confirmed and s.program), "")
    return Pack(
        visible(shortened(family.goalpost.statement, 6000)),
        one_line(family.goalpost.source, 80),
        tuple((step, score.confirmed, score.samples) for step, score in family.history),
        visible(proof),
        tuple(msgspec.Raw(entry.card) for entry in entries),
    )


def _outline(family: Family, left_out: int) -> Outline:
    trained = [(step, score) for step, score in family.history if step > 0]
    kind = next(iter(family.shelf.written), "")
    free = not family.goalpost.id
    return Outline(
        visible(f"{kind} proposals" if free else family.goalpost.id[:200]),
        one_line(family.goalpost.statement, 140),
        one_line(family.goalpost.difficulty, 30),
        free,
        sum(score.samples for _, score in trained),
        family.solves,
        next((step for step, score in trained if score.confirmed), 0),
        {visible(rung): n for rung, n in family.shelf.written.items()},
        {visible(rung): n for rung, n in family.shelf.kept.items()},
        dict(family.shelf.axes),
        dict(family.shelf.why),
        family.height,
        left_out,
    )


def _index(outlines: tuple[Outline, ...], journal: Journal) -> Index:
    updates = {
        str(iteration.step): tuple(
            Learned(
                visible(p.name),
                round(p.update.mean_reward, 3) if math.isfinite(p.update.mean_reward) else None,
                p.update.rollouts,
                p.update.tokens,
                p.update.skipped,
            )
            for p in iteration.phases
            if p.update
        )
        for iteration in journal.iterations
    }
    return Index(
        outlines,
        tuple(visible(rung) for rung in numbers.rungs(journal)),
        {axis.value: words for axis, words in AXES.items()},
        {reason.value: words for reason, words in WHY.items()},
        numbers.public_pairs(journal),
        updates,
        max((i.step for i in journal.iterations), default=0),
    )
