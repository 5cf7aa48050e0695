"""A run read record by record: all of its numbers, and of its texts what a page has room for.

Nothing grows with the length of what a model wrote: texts are cut and kept compressed, of the rejected siblings of one
iteration only a few of each reason.
"""

import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgspec

from gasp_rl.report.text import one_line, shortened, visible
from gasp_rl.rollout import Answer, Evaluation, Iteration, Judgement, Phase, Proposal, Rejection
from gasp_rl.runs.health import Monitor, Reading
from gasp_rl.runs.journal import EvaluationRecord, IterationRecord, Journal, Record, Started

ALIKE = 2
"""Rejected proposals of one parent, iteration and reason whose texts are kept; the others are counted."""

ANSWERS = 3
"""Latest answers kept of each kind and judgement."""

GIST = 120
"""Characters of a message where another proposal names it."""


class Card(msgspec.Struct, frozen=True, omit_defaults=True):
    """A proposal as the page shows it: every text inert and of bounded length."""

    id: str
    rung: str
    step: int
    parent: str
    axis: str = ""
    why: str = ""
    """Its rejection; empty: accepted."""
    detail: str = ""
    message: str = ""
    program: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    more_pairs: int = 0
    text: str = ""
    """As written, where no program could be read."""
    passes: int = 0
    tries: int = 0
    reward: float = 0.0
    similarity: float = 0.0
    neighbour: str = ""
    near: str = ""
    """What the neighbour asks, where it is a proposal of this run."""
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A card on its shelf."""

    id: str
    parent: str
    rung: str
    step: int
    reward: float
    why: Rejection | None
    packed: bytes

    @property
    def card(self) -> bytes:
        """As JSON."""
        return zlib.decompress(self.packed)


@dataclass(slots=True)
class Shelf:
    """What was written for one goalpost, or freely."""

    accepted: list[Entry] = field(default_factory=list)
    rejected: list[Entry] = field(default_factory=list)
    written: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    """Written and accepted proposals by rung."""
    axes: Counter[str] = field(default_factory=Counter)
    """Of all that was written."""
    why: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer of the student, and what it was asked."""

    step: int
    answer: Answer
    asked: str
    """The message of its source; empty where that is a problem."""


class Story:
    """Give it records in order; ask it at any time."""

    def __init__(self, records: Iterable[Record] = (), notes: Iterable[str] = ()) -> None:
        self.shelves: dict[str, Shelf] = {}
        """By goalpost; "" holds what was proposed freely."""
        self.notes = tuple(notes)
        self.signals: list[Reading] = []
        """What the health monitor read, iteration by iteration."""
        self._monitor: Monitor | None = None
        self._records: list[Record] = []
        self._messages: dict[str, str] = {}
        """Of what was accepted."""
        self._beside: dict[str, str] = {}
        """Of what else was written in the same iteration: a proposal may repeat that, too."""
        self._alike: Counter[tuple[str, Rejection]] = Counter()
        self._samples: defaultdict[tuple[str, Judgement], deque[Sample]] = defaultdict(lambda: deque(maxlen=ANSWERS))
        for record in records:
            self.add(record)

    @property
    def journal(self) -> Journal:
        """What happened, without the texts of proposals and answers."""
        return Journal(tuple(self._records), self.notes)

    @property
    def alarms(self) -> list[Reading]:
        return [reading for reading in self.signals if reading.alarming]

    @property
    def samples(self) -> list[Sample]:
        """The latest answers of each kind and judgement, the latest first."""
        kept = [sample for samples in self._samples.values() for sample in samples]
        return sorted(kept, key=lambda s: -s.step)

    def add(self, record: Record) -> None:
        match record:
            case IterationRecord(iteration):
                self._alike.clear()
                self._beside.clear()
                if self._monitor:
                    self.signals += self._monitor.read(iteration)
                self._records.append(IterationRecord(self._without_texts(iteration)))
            case EvaluationRecord(evaluation):
                if self._monitor:
                    self._monitor.evaluated(evaluation)
                self._records.append(EvaluationRecord(_without_programs(evaluation)))
            case Started(config):
                self._monitor = self._monitor or Monitor(config)
                self._records.append(record)
            case _:
                self._records.append(record)

    def _without_texts(self, iteration: Iteration) -> Iteration:
        return replace(iteration, phases=tuple(self._numbers_of(phase, iteration.step) for phase in iteration.phases))

    def _numbers_of(self, phase: Phase, step: int) -> Phase:
        for proposal in phase.proposals:
            self._put(proposal, step)
        for answer in phase.answers:
            self._samples[answer.kind.value, answer.judgement].append(
                Sample(step, _cut(answer), self._messages.get(answer.source, ""))
            )
        proposals = tuple(
            replace(p, text="", message="", program="", pairs=(), detail="", prompt="") for p in phase.proposals
        )
        answers = tuple(replace(a, text="", detail="") for a in phase.answers)
        return replace(phase, proposals=proposals, answers=answers, tries=())

    def _put(self, p: Proposal, step: int) -> None:
        shelf = self.shelves.setdefault(p.goalpost, Shelf())
        shelf.written[p.rung] += 1
        if p.axis:
            shelf.axes[p.axis.value] += 1
        if p.rejection is None:
            shelf.kept[p.rung] += 1
            self._messages[p.id] = visible(p.message[:400])
            shelf.accepted.append(self._entry(p, step))
            return
        self._beside[p.id] = p.message[:400]
        shelf.why[p.rejection.value] += 1
        self._alike[p.parent, p.rejection] += 1
        if self._alike[p.parent, p.rejection] <= ALIKE:
            shelf.rejected.append(self._entry(p, step))

    def _entry(self, p: Proposal, step: int) -> Entry:
        card = Card(
            visible(p.id[:200]),
            visible(p.rung[:40]),
            step,
            visible(p.parent[:200]),
            axis=p.axis.value if p.axis else "",
            why=p.rejection.value if p.rejection else "",
            detail=one_line(p.detail, 300),
            message=_inert(p.message, 1500),
            program=_inert(p.program, 4000),
            pairs=tuple((one_line(pair.input, 160), one_line(pair.output, 160)) for pair in p.pairs[:10]),
            more_pairs=max(0, len(p.pairs) - 10),
            text="" if p.program else _inert(p.text, 1200),
            passes=p.passes,
            tries=p.tries,
            reward=round(p.reward, 4),
            similarity=round(p.similarity, 4),
            neighbour=one_line(p.neighbour, 80),
            near=one_line(self._messages.get(p.neighbour) or self._beside.get(p.neighbour, ""), GIST),
            tokens=p.tokens,
        )
        packed = zlib.compress(msgspec.json.encode(card), 1)
        return Entry(p.id, p.parent, p.rung, step, p.reward, p.rejection, packed)


def _inert(text: str, characters: int) -> str:
    return visible(shortened(text, characters))


def _cut(answer: Answer) -> Answer:
    return replace(answer, text=shortened(answer.text, 1200), detail=answer.detail[:400], source=answer.source[:200])


def _without_programs(evaluation: Evaluation) -> Evaluation:
    """Programs are evidence for goalposts only; elsewhere they are many."""
    keep = evaluation.split == "goalposts"
    scores = tuple(replace(s, program=shortened(s.program, 4000) if keep else "") for s in evaluation.scores)
    return replace(evaluation, scores=scores)
