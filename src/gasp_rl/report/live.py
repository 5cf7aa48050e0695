"""A run while it happens: one line per iteration, and on a terminal a small panel below that shows what goes on now.

Times are measured here and nowhere in the algorithm. Whatever a model wrote is cleaned before it reaches a terminal.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gasp_rl.report import numbers
from gasp_rl.report.text import one_line
from gasp_rl.report.words import duration
from gasp_rl.rollout import BROKEN, Answer, Evaluation, Iteration, Judgement, Proposal, Rejection
from gasp_rl.stats import mean_pass_at_k

SPEED_WINDOW = 10.0
"""Seconds over which tokens per second are counted."""

RECENT = 2
"""Accepted proposals shown as they come in, and as many rejected ones."""

LEGEND = "Each iteration: accepted/written (mean reward) per rung, then right answers."

REASONS: dict[str, frozenset[Rejection]] = {
    "broken": BROKEN,
    "known": frozenset({Rejection.DUPLICATE, Rejection.CONTAMINATED, Rejection.QUARANTINED}),
    "too hard": frozenset({Rejection.TOO_HARD}),
    "too easy": frozenset({Rejection.TOO_EASY}),
}
"""Why proposals fail, in four words that fit on a line."""


@dataclass(slots=True)
class RungTally:
    """Proposals of one rung, this iteration."""

    written: int = 0
    accepted: int = 0
    rejected: Counter[Rejection] = field(default_factory=Counter)
    reward: float = 0.0

    def add(self, proposal: Proposal) -> None:
        self.written += 1
        self.reward += proposal.reward
        if proposal.rejection:
            self.rejected[proposal.rejection] += 1
        else:
            self.accepted += 1

    @property
    def mean_reward(self) -> str:
        return f"{round(self.reward / self.written, 2) + 0.0:+.2f}"  # + 0.0 makes -0.0 positive

    def lost(self, reasons: frozenset[Rejection]) -> int:
        return sum(self.rejected[reason] for reason in reasons)


@dataclass(slots=True)
class Tally:
    """What this iteration has brought so far."""

    rungs: dict[str, RungTally] = field(default_factory=dict)
    right: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """In the words of one short line."""
        parts = [f"{name} {tally.accepted}/{tally.written} ({tally.mean_reward})"
                 for name, tally in self.rungs.items()]  # fmt: skip
        if answered := self.answered.total():
            parts.append(f"right answers {self.right.total() / answered:.0%} of {answered}")
        return ", ".join(parts) or "nothing yet"


class LiveView:
    """Draws a run on a console. Plain lines only where the console is not a terminal."""

    def __init__(
        self,
        title: str,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        untrained: str = "no training yet",
    ) -> None:
        """`untrained`: what is said before the first iteration; nothing for a command that may never have one."""
        self._title = title
        self._untrained = untrained
        self._console = console or Console()
        self._clock = clock
        self._begun = clock()
        self._first_iteration = 0.0
        self._step = 0
        self._iterated = 0
        self._steps = 0
        self._phase = "starting"
        self._done, self._total = 0, 0
        self._tally = Tally()
        self._recent: dict[bool, list[Proposal]] = {True: [], False: []}
        self._solved: set[str] = set()
        self._scores: dict[str, str] = {}
        self._tokens = 0
        self._sampled: deque[tuple[float, int]] = deque()
        self._live = Live(console=self._console, get_renderable=self._panel, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._close_iteration()
        self._live.stop()

    def iteration(self, step: int, steps: int) -> None:
        self._close_iteration()
        if not self._first_iteration:
            self._first_iteration = self._clock()
            self._say(Text(LEGEND, "dim"))
        self._step, self._steps, self._tally = step, steps, Tally()

    def phase(self, name: str, detail: str = "") -> None:
        self._phase = f"{name}: {detail}" if detail else name
        self._done, self._total = 0, 0

    def progress(self, done: int, total: int) -> None:
        self._done, self._total = done, total

    def sampling(self, prompt: int, tokens: int, longest: int) -> None:
        now = self._clock()
        self._tokens += tokens
        self._sampled.append((now, tokens))
        while self._sampled[0][0] < now - SPEED_WINDOW:
            self._sampled.popleft()

    def proposal(self, proposal: Proposal) -> None:
        self._tally.rungs.setdefault(proposal.rung, RungTally()).add(proposal)
        kept = self._recent[proposal.accepted]
        kept.append(proposal)
        del kept[:-RECENT]

    def answer(self, answer: Answer) -> None:
        if answer.judgement is not Judgement.SANDBOX_FAULT:
            self._tally.answered[answer.kind] += 1
            self._tally.right[answer.kind] += answer.judgement is Judgement.CORRECT

    def learning(self, tokens: int) -> None:
        pass

    def executed(self, cpu_seconds: float) -> None:
        pass

    def iterated(self, iteration: Iteration) -> None:
        self._iterated = iteration.step
        for stats in (phase.update for phase in iteration.phases if phase.update):
            if stats.skipped and stats.rollouts:
                self.note(f"{stats.phase}: the update was skipped, its gradient was not finite")

    def evaluation(self, evaluation: Evaluation) -> None:
        self._close_iteration()
        words = self._evaluated(evaluation)
        self._scores[evaluation.split] = words
        step = self._step if evaluation.split == numbers.MATCHED_BASE else evaluation.step
        self._say(Text(f"{_when(step)}{words}", "bold"))

    def signal(self, name: str, value: float, alarm: str) -> None:
        if alarm:
            self._close_iteration()
            self._say(Text(f"{_when(self._iterated)}{alarm}", "yellow"))

    def note(self, text: str) -> None:
        self._say(Text(one_line(text, 400)))

    def _evaluated(self, evaluation: Evaluation) -> str:
        solved = len(evaluation.solved)
        problems = len(evaluation.scores)
        match evaluation.split:
            case numbers.GOALPOSTS:
                self._solved |= set(evaluation.solved) if evaluation.step else set()
                return f"goalposts: {solved} of {problems} solved, {len(self._solved)} so far"
            case numbers.MATCHED_BASE:
                return f"base model, same draws: {solved} of {problems} goalposts solved"
            case split:
                ones = mean_pass_at_k(evaluation.scores, 1)
                return f"{split}: pass@1 {ones:.1%}" if ones is not None else f"{split}: no problems"

    def _close_iteration(self) -> None:
        """Leave one line behind for what is over."""
        if self._tally.rungs or self._tally.answered:
            self._say(Text(f"{_when(self._step)}{self._tally.line()}"))
            self._tally = Tally()

    def _say(self, line: Text) -> None:
        self._console.print(line, soft_wrap=not self._console.is_terminal, highlight=False)

    def _panel(self) -> RenderableType:
        """What goes on now, in at most some fifteen lines of eighty columns."""
        return Group(self._head(), self._bar(), self._counts(), *self._comings(), *self._standings())

    def _head(self) -> Text:
        of = f" of {self._steps}" if self._steps else ""
        where = f"iteration {self._step}{of}" if self._step else self._untrained
        spent = duration(self._clock() - self._begun)
        parts = [part for part in (where, self._phase, f"{spent}{self._left()}") if part]
        return Text.assemble((f"\n{self._title}", "bold"), f"  {' · '.join(parts)}")

    def _left(self) -> str:
        """From the mean of the iterations that are over."""
        over = self._step - 1
        if over < 1 or not self._steps:
            return ""
        each = (self._clock() - self._first_iteration) / (over + 0.5)
        return f", about {duration(each * (self._steps - over - 0.5))} left"

    def _bar(self) -> RenderableType:
        speed = sum(n for _, n in tuple(self._sampled)) / SPEED_WINDOW  # a copy: the screen has its own thread
        grid = Table.grid(padding=(0, 2))
        total, done = (self._total, self._done) if self._total else (self._steps or 1, max(0, self._step - 1))
        grid.add_row(
            ProgressBar(total=total, completed=done, width=36),
            Text(f"{self._tokens:,} tokens, {speed:,.0f} tokens/s", "dim"),
        )
        return grid

    def _counts(self) -> RenderableType:
        if not self._tally.rungs:
            return Text("")
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for title in ("", "written", "accepted", *REASONS, "reward"):
            table.add_column(title, justify="right" if title else "left")
        for name, tally in self._tally.rungs.items():
            lost = [str(tally.lost(reasons)) for reasons in REASONS.values()]
            table.add_row(name, str(tally.written), Text(str(tally.accepted), "green"), *lost, tally.mean_reward)
        return table

    def _comings(self) -> list[Text]:
        return [_coming(p, self._console.width) for kept in self._recent.values() for p in kept]

    def _standings(self) -> list[Text]:
        right = [f"{kind} {self._tally.right[kind] / n:.0%}" for kind, n in self._tally.answered.items()]
        lines = [Text("right answers: " + ", ".join(right))] if right else []
        return lines + [Text(words, "bold") for words in self._scores.values()]


def _when(step: int) -> str:
    return f"{step:>4}  " if step else "base  "


def _coming(p: Proposal, width: int) -> Text:
    """One proposal on one line: accepted or why not, how often it was solved, what it asks."""
    mark, style = ("✓", "green") if p.accepted else ("·", "dim")
    why = "accepted" if p.rejection is None else p.rejection.value.replace("_", " ")
    rate = f"{p.passes}/{p.tries}" if p.tries else ""
    head = f"{mark} {p.rung:<6} {why:<16} {rate:>5}  "
    return Text.assemble((head, style), one_line(p.message or p.detail, max(10, width - len(head) - 1)))
