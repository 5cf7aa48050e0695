"""What one arm of a comparison brought with one seed: a small file that stands for itself.

A comparison is a folder of such files, so that it may take several sittings and machines: copied together, they are one.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import msgspec

from gasp_rl.config import Matched, RunConfig
from gasp_rl.errors import InputError
from gasp_rl.rollout import Evaluation, Iteration, Rejection
from gasp_rl.runs.differences import differences
from gasp_rl.runs.whole import write_whole

SCHEMA = 1
SUFFIX = ".arm.json"


@dataclass(frozen=True, slots=True)
class Terms:
    """What all arms of a comparison share. Those that differ in any of it are not compared."""

    match: Matched
    budget: float
    """Training tokens, or seconds of training."""
    evaluations: int
    """Of each run, after equal shares of the budget."""
    samples: int
    """Draws per problem at each evaluation."""
    test_samples: int
    """Draws per test problem."""
    ks: tuple[int, ...]
    """The checkpoint with the best validation pass@k is chosen for each of these k, and tested."""
    temperature: float
    """Of evaluations and tests."""
    max_tokens: int
    lr: float
    model: str
    """SHA-256 of the untrained weights."""
    prompts: str
    """Digest of the prompt set."""
    goalposts: str
    """SHA-256 of these problems, as of the splits below."""
    validation: str
    test: str
    train: str
    """Of the real problems that some arms learn from; all arms are given the same, used or not."""

    @property
    def world(self) -> str:
        """One short digest of all problems."""
        joined = f"{self.goalposts}{self.train}{self.validation}{self.test}"
        return hashlib.sha256(joined.encode()).hexdigest()[:12]


class Score(msgspec.Struct, frozen=True, array_like=True):
    """How one problem fared."""

    problem: str
    samples: int
    passes: int
    confirmed: int
    """Passing samples whose program passed again in a fresh sandbox."""


class Point(msgspec.Struct, frozen=True):
    """An evaluated version of the weights."""

    step: int
    """Iterations trained."""
    tokens: int
    """Sampled by then to learn from."""
    seconds: float
    """Of training by then; 0 where nothing was measured."""
    validation: tuple[Score, ...]
    goalposts: tuple[Score, ...]


class Chosen(msgspec.Struct, frozen=True):
    """A chosen version of the weights on the test split: the only look at it."""

    step: int
    ks: tuple[int, ...]
    """It has the best validation pass@k of the run for these k."""
    scores: tuple[Score, ...]


class Lost(msgspec.Struct, frozen=True, array_like=True):
    reason: Rejection
    count: int


class Written(msgspec.Struct, frozen=True):
    """What became of the proposals of one rung, or of one free kind."""

    rung: str
    proposals: int
    accepted: int
    lost: tuple[Lost, ...]


class ArmResult(msgspec.Struct, frozen=True):
    """One arm with one seed, trained, chosen and tested."""

    schema: int
    arm: str
    """The recipe."""
    seed: int
    terms: Terms
    config: RunConfig
    package: str
    """Version of gasp-rl."""
    commit: str
    """Of its source, `+` behind it if that had changes; empty outside a repository."""
    machine: str
    """Processor, cores and threads, in words."""
    iterations: int
    points: tuple[Point, ...]
    tested: tuple[Chosen, ...]
    written: tuple[Written, ...]
    training_tokens: int
    training_seconds: float
    tokens: int
    """All that were sampled, evaluations and test included."""
    seconds: float
    """All that passed, by the wall clock."""

    @property
    def draws(self) -> int:
        """Of each goalpost, at all evaluations together; the mean, should a fault of ours have cost one of them some."""
        return round(sum(fmean(score.samples for score in point.goalposts) for point in self.points if point.goalposts))


def scores(evaluation: Evaluation) -> tuple[Score, ...]:
    return tuple(Score(s.problem, s.samples, s.passes, s.confirmed) for s in evaluation.scores)


def written(iterations: Iterable[Iteration]) -> tuple[Written, ...]:
    """What became of all proposals, by rung in order of appearance."""
    found: dict[str, Counter[Rejection | None]] = {}
    for proposal in (p for iteration in iterations for phase in iteration.phases for p in phase.proposals):
        found.setdefault(proposal.rung, Counter())[proposal.rejection] += 1
    return tuple(
        Written(rung, counts.total(), counts[None], tuple(Lost(r, counts[r]) for r in Rejection if counts[r]))
        for rung, counts in found.items()
    )


def result_path(folder: Path, arm: str, seed: int) -> Path:
    return folder / f"{arm}-seed{seed}{SUFFIX}"


def write_result(folder: Path, result: ArmResult) -> Path:
    path = result_path(folder, result.arm, result.seed)
    write_whole(path, msgspec.json.encode(result) + b"\n")
    return path


def read_result(path: Path) -> ArmResult:
    try:
        result = msgspec.json.decode(path.read_bytes(), type=ArmResult)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise InputError(f"{path} holds no finished arm of gasp compare: {error}") from error
    if result.schema > SCHEMA:
        raise InputError(f"{path} has schema {result.schema}, this gasp-rl reads {SCHEMA}: use a newer one")
    return result


def read_comparison(folder: Path) -> tuple[ArmResult, ...]:
    """All finished arms of a folder, by arm and seed. InputError where two of them were not run on the same terms."""
    results = [read_result(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    for result in results[1:]:
        require_same_terms(results[0], result.terms, str(result_path(folder, result.arm, result.seed)))
    return tuple(sorted(results, key=lambda result: (result.arm, result.seed)))


def require_same_terms(one: ArmResult, terms: Terms, other: str) -> None:
    """`other` says whose terms these are."""
    if changes := list(differences(msgspec.to_builtins(one.terms), msgspec.to_builtins(terms))):
        raise InputError(
            f"{other} cannot be compared with {one.arm} of seed {one.seed}, whose terms are others: "
            f"{'; '.join(map(str, changes))}; keep them in different folders"
        )


def seeds_of(results: Sequence[ArmResult], arm: str) -> list[ArmResult]:
    return [result for result in results if result.arm == arm]
