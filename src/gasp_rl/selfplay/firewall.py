"""Does a generated task give away a problem that measures the model? Asked of every proposal that would be used.

Three ways of being too like an evaluation problem: most n-grams of the message are in its statement or the other way
round, or most of its reference's are in the program; the same two are neighbours by embedding; or the program passes
the problem's tests, which makes it a solution. What is found is recorded with the proposal; `FirewallConfig.action` says what follows.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gasp_rl.config import FirewallConfig, Limits
from gasp_rl.problem import IoMode, Problem, TestCase
from gasp_rl.rollout import Likeness, LikenessKind, Proposal, Rejection
from gasp_rl.sandbox.base import Job, Sandbox, Status
from gasp_rl.sandbox.grading import job_input, same_result
from gasp_rl.sandbox.values import decode
from gasp_rl.selfplay.novelty import Embedder, Vectors, normalised

LEAST_WORDS = 5
LEAST_CODE = 30
"""N-grams: fewer are shared by chance (a loop and a sum are in many programs); what is shorter is compared by embedding."""

LEAST_BITS = 8.0
"""What passing a problem's tests must say: the surprise of their outputs, if each were drawn as often as it is there. Four
different outputs, or eight of which half are true and half false. Others are passed by chance."""

MOST_TESTS = 20
MOST_CHARACTERS = 2_000
"""Tests that a program is run on: at most so many of a problem, none larger."""

LIMITS = Limits(cpu_seconds=5.0, input_cpu_seconds=0.5)
"""An input that a program was not written for may keep it busy for ever."""

WORD = re.compile(r"[^\W_]+")


class Firewall:
    """What is known of the evaluation problems, to hold proposals against. Has no state that changes."""

    def __init__(self, problems: Sequence[Problem], sandbox: Sandbox, embedder: Embedder, cfg: FirewallConfig) -> None:
        self._problems = problems
        self._sandbox = sandbox
        self._embedder = embedder
        self._cfg = cfg
        self._statements = _Overlaps(
            [_words(problem.statement) for problem in problems], cfg.ngram, LEAST_WORDS, either=True
        )
        self._references = _Overlaps(
            [_code(problem.reference) for problem in problems], cfg.code_ngram, LEAST_CODE, either=False
        )
        self._vectors = embedder.embed([(problem.statement, problem.reference) for problem in problems])
        self._has_reference = np.array([bool(problem.reference) for problem in problems], bool)
        self._watched: dict[int, list[_Watched]] = defaultdict(list)
        for problem in problems if cfg.behaviour else ():
            if watched := _watch(problem):
                self._watched[watched.arity].append(watched)

    def screen(self, proposals: Sequence[Proposal]) -> list[Proposal]:
        """The proposals with what each was found to be too like, and refused for it where that is asked for."""
        if not self._problems or not proposals:
            return list(proposals)
        found = [
            tuple(likeness for likeness in likenesses if likeness is not None)
            for likenesses in zip(
                map(self._shared_words, proposals),
                map(self._shared_code, proposals),
                self._near(proposals),
                self._solved(proposals),
                strict=True,
            )
        ]
        return [self._refused(proposal, likenesses) for proposal, likenesses in zip(proposals, found, strict=True)]

    def _refused(self, proposal: Proposal, likenesses: tuple[Likeness, ...]) -> Proposal:
        if not likenesses:
            return proposal
        proposal = replace(proposal, likenesses=likenesses)
        detail = "; ".join(f"{one.kind} of {one.problem} ({one.score:.2f})" for one in likenesses)
        match self._cfg.action:
            case "block":
                return replace(proposal, rejection=Rejection.CONTAMINATED, detail=detail)
            case "quarantine":
                return replace(proposal, rejection=Rejection.QUARANTINED, detail=detail)
            case "report":
                return proposal

    def _shared_words(self, proposal: Proposal) -> Likeness | None:
        return self._shared(LikenessKind.WORDS, self._statements, _words(proposal.message))

    def _shared_code(self, proposal: Proposal) -> Likeness | None:
        return self._shared(LikenessKind.CODE, self._references, _code(proposal.program))

    def _shared(self, kind: LikenessKind, overlaps: "_Overlaps", tokens: Sequence[str]) -> Likeness | None:
        place, share = overlaps.nearest(tokens)
        return Likeness(kind, self._problems[place].id, share) if share >= self._cfg.overlap else None

    def _near(self, proposals: Sequence[Proposal]) -> Iterator[Likeness | None]:
        texts, codes = self._embedder.embed([(proposal.message, proposal.program) for proposal in proposals])
        by_text = _similarities(texts, self._vectors[0])
        by_code = np.where(self._has_reference, _similarities(codes, self._vectors[1]), 0.0)
        for row in np.maximum(by_text, by_code):
            place = int(row.argmax())
            near = float(row[place])
            yield (
                Likeness(LikenessKind.EMBEDDING, self._problems[place].id, near)
                if near >= self._cfg.similarity
                else None
            )

    def _solved(self, proposals: Sequence[Proposal]) -> list[Likeness | None]:
        """A problem that each proposal's program solves. One telling test of each problem first, then the others of those
        that were passed.
        """
        solved: list[Likeness | None] = [None] * len(proposals)
        rivals = [self._watched.get(_arity(proposal), []) for proposal in proposals]
        first = [(place, [(one, 0) for one in watched]) for place, watched in enumerate(rivals) if watched]
        rest = [
            (place, [(one, n) for one, n in passed for n in range(1, len(one.tests))])
            for place, passed in self._passed(proposals, first)
            if passed
        ]
        for place, passed in self._passed(proposals, rest):
            counts = Counter(one.problem.id for one, _ in passed)
            whole = [one.problem.id for one, n in passed if n == 1 and counts[one.problem.id] == len(one.tests) - 1]
            if whole:
                solved[place] = Likeness(LikenessKind.BEHAVIOUR, whole[0], 1.0)
        return solved

    def _passed(
        self, proposals: Sequence[Proposal], asked: Sequence[tuple[int, list["_Asked"]]]
    ) -> list[tuple[int, list["_Asked"]]]:
        """Of the tests asked of each proposal's program, in order, those that it passes."""
        passed: dict[int, list[_Asked]] = {}
        for alone in (False, True):  # one that ends its process takes the later ones with it: they are run again, alone
            jobs = [
                Job(
                    proposals[place].program, tuple(one.inputs[n] for one, n in tests), limits=LIMITS,
                    stop_on_error=False, alone=alone,
                )
                for place, tests in asked
            ]  # fmt: skip
            unreached: list[tuple[int, list[_Asked]]] = []
            for index, execution in self._sandbox.execute(jobs):
                place, tests = asked[index]
                passed.setdefault(place, []).extend(
                    (one, n)
                    for (one, n), result in zip(tests, execution.results, strict=False)
                    if result.status is Status.OK and one.right(n, result.value)
                )
                if left := tests[len(execution.results) :]:
                    unreached.append((place, left))
            asked = sorted(unreached, key=lambda one: one[0])
        return sorted(passed.items())


@dataclass(frozen=True, slots=True)
class _Watched:
    """A problem whose solution would be noticed by what it does."""

    problem: Problem
    tests: tuple[TestCase, ...]
    """The most telling one first."""
    inputs: tuple[str, ...]
    """As the sandbox takes them."""
    arity: int

    def right(self, test: int, value: str) -> bool:
        return same_result(self.problem, value, self.tests[test].output, self.problem.compare)


_Asked = tuple[_Watched, int]
"""A problem and the place of a test."""


def _watch(problem: Problem) -> _Watched | None:
    """None for a program that reads standard input, which no proposal does, and where the tests cannot tell."""
    if problem.io_mode is IoMode.STDIN:
        return None
    tests = [test for test in problem.tests if len(test.input) + len(test.output) <= MOST_CHARACTERS]
    tests = sorted(tests, key=lambda test: -len(test.output))[:MOST_TESTS]  # long outputs are not hit by chance
    arities = {len(test.input.split("\n")) if test.input else 0 for test in tests}
    if _surprise([test.output for test in tests]) < LEAST_BITS or len(arities) != 1:
        return None
    return _Watched(problem, tuple(tests), tuple(job_input(problem, test.input) for test in tests), arities.pop())


def _surprise(outputs: Sequence[str]) -> float:
    """Bits."""
    return sum(n * math.log2(len(outputs) / n) for n in Counter(outputs).values())


def _arity(proposal: Proposal) -> int:
    """Arguments of its program."""
    arguments = decode(f"[{proposal.pairs[0].input}]") if proposal.pairs else []
    return len(arguments) if isinstance(arguments, list) else 0


class _Overlaps:
    """Texts, and how much of each stands in another one: the share of its n-grams. `either`: or of the other one's,
    if that is the shorter, so that a sentence of a long text is found too.
    """

    def __init__(self, texts: Sequence[Sequence[str]], n: int, least: int, *, either: bool) -> None:
        self._n = n
        self._least = least
        self._either = either
        self._sizes: list[int] = []
        self._having: dict[Hashable, list[int]] = defaultdict(list)
        for place, tokens in enumerate(texts):
            grams = _grams(tokens, n)
            self._sizes.append(len(grams))
            for gram in grams:
                self._having[gram].append(place)

    def nearest(self, tokens: Sequence[str]) -> tuple[int, float]:
        """(the place of the text with the largest share, the share); the earliest of several."""
        grams = _grams(tokens, self._n)
        shared = Counter(place for gram in grams for place in self._having.get(gram, ()))
        shares = []
        for place, count in shared.items():
            of = min(len(grams), self._sizes[place]) if self._either else self._sizes[place]
            if of >= self._least:
                shares.append((round(count / of, 6), -place))
        share, place = max(shares, default=(0.0, 0))
        return -place, share


def _grams(tokens: Sequence[str], n: int) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1))


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _code(program: str) -> list[str]:
    """Its tokens, without names of its own, comments and layout."""
    return [token for line in normalised(program) for token in line] if program else []


def _similarities(some: Vectors, others: Vectors) -> Vectors:
    rounded: Vectors = np.round(some @ others.T, 6)  # the last bits depend on the shape; a journal must not
    return rounded
