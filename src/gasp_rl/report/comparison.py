"""A comparison in numbers: arms side by side on the same terms. Pure functions; page, Markdown and terminal all ask here."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TypeAlias

import msgspec

from gasp_rl.config import Matched
from gasp_rl.errors import InputError
from gasp_rl.intervals import Estimate, difference_estimate, mean_estimate
from gasp_rl.report.numbers import Point, Stage, stages
from gasp_rl.report.words import SURE
from gasp_rl.rollout import Rejection
from gasp_rl.runs.arms import ArmResult, Score, Terms, seeds_of
from gasp_rl.runs.differences import Difference as Setting
from gasp_rl.runs.differences import differences
from gasp_rl.stats import holm, least_p_value, pass_at_k, permutation_test

USUAL_KS = (1, 5, 10, 20)
"""Reported as far as there are draws, beside those by which checkpoints were chosen."""

GASP = "gasp"
"""The arm that the others are held against, where it is there."""

ENOUGH = 0.98
"""Of the budget. A run ends with the iteration that reaches it, so whoever has less was stopped by something else."""

Values: TypeAlias = list[float]
"""One per test problem."""


@dataclass(frozen=True, slots=True)
class Metric:
    """pass@k on the test split, of the checkpoints with the best validation pass@chosen_by."""

    k: int
    chosen_by: int

    def __str__(self) -> str:
        return f"pass@{self.k} (sel. pass@{self.chosen_by})"


@dataclass(frozen=True, slots=True)
class Cell:
    metric: Metric
    by_seed: tuple[float, ...]
    estimate: Estimate | None
    """None where nothing was tested."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many goalposts fell."""

    by_seed: tuple[int, ...]
    union: int
    """By any seed."""

    @property
    def mean(self) -> float:
        return fmean(self.by_seed) if self.by_seed else 0.0


@dataclass(frozen=True, slots=True)
class Goalposts:
    """What fell at all evaluations of a run together: once a draw's program passed, and passed again in a fresh sandbox."""

    count: int
    """That were asked."""
    draws: tuple[int, ...]
    """Of each goalpost, by seed."""
    plain: Tally
    """By one draw or more."""
    solid: Tally
    """By two draws or more: one alone may be luck."""


@dataclass(frozen=True, slots=True)
class Persistence:
    """Of goalposts that fell before the last evaluation: at how many of the later ones they fell again."""

    again: int
    later: int
    """Evaluations after the first solve, summed over goalposts and seeds."""

    @property
    def share(self) -> float | None:
        return self.again / self.later if self.later else None


@dataclass(frozen=True, slots=True)
class Curve:
    """Over compute, or over k."""

    mean: tuple[Point, ...]
    seeds: tuple[tuple[Point, ...], ...]


@dataclass(frozen=True, slots=True)
class Spent:
    """By all seeds of an arm together."""

    training_tokens: int
    training_seconds: float
    tokens: int
    """Evaluations and test included."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Funnel:
    """What became of the proposals of one rung, or of one free kind, of all seeds."""

    rung: str
    proposals: int
    stages: tuple[Stage, ...]

    @property
    def accepted(self) -> int:
        return self.stages[-1].survivors


@dataclass(frozen=True, slots=True)
class Arm:
    name: str
    results: tuple[ArmResult, ...]
    """One per finished seed."""
    cells: tuple[Cell, ...]
    more: tuple[Cell, ...]
    """Other k, of the checkpoints chosen by the largest."""
    goalposts: Goalposts | None
    """None where none were asked."""
    persistence: Persistence
    solved: tuple[tuple[str, int], ...]
    """Goalposts that any seed solved, and how many did, by one draw or more."""
    fallen: Curve
    """Solid goalposts so far, over compute."""
    fallen_once: Curve
    """Goalposts so far, over compute."""
    validation: tuple[tuple[int, Curve], ...]
    """pass@k over compute, by k."""
    test: Curve
    """pass@k over k, of the checkpoints chosen by the largest."""
    spent: Spent
    funnels: tuple[Funnel, ...]

    @property
    def real_problems(self) -> bool:
        return self.results[0].config.rlvr is not None and self.trained

    @property
    def trained(self) -> bool:
        return self.results[0].config.steps > 0

    @property
    def guidance(self) -> bool:
        return self.results[0].config.gasp is not None and self.trained

    @property
    def short(self) -> tuple[ArmResult, ...]:
        """Seeds that did not spend their budget, though they were to."""
        return tuple(r for r in self.results if self.trained and _spent(r) < ENOUGH * r.terms.budget)

    @property
    def uneven(self) -> tuple[Setting, ...]:
        """Settings, but the seed, in which its seeds differ: they should not."""
        first, *others = (_settings(result) for result in self.results)
        return tuple({str(found): found for other in others for found in differences(first, other)}.values())

    def unlike(self, other: "Arm") -> list[Setting]:
        """Settings in which another arm differs, but seed and name."""
        first, second = (_settings(arm.results[0]) for arm in (other, self))
        return [found for found in differences(first, second) if found.place != "recipe"]

    def cell(self, metric: Metric) -> Cell:
        return next(cell for cell in self.cells if cell.metric == metric)


@dataclass(frozen=True, slots=True)
class Advantage:
    """Of the reference over another arm, on the test split."""

    arm: Arm
    estimates: dict[Metric, Estimate]
    """In every column of the table, and for some k up to all draws of the checkpoints chosen by the largest k; not adjusted."""
    estimate: Estimate
    """In the headline metric."""
    p_value: float | None
    """Of that, adjusted by Holm for as many comparisons as could be tested; None where seeds are too few for a test."""

    @property
    def over_k(self) -> list[tuple[int, Estimate]]:
        last = max(metric.chosen_by for metric in self.estimates)
        return sorted(
            ((m.k, found) for m, found in self.estimates.items() if m.chosen_by == last), key=lambda at: at[0]
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """An exact permutation test over seeds, adjusted by Holm for as many comparisons as there are matched arms."""

    p_value: float
    least: float
    """What the p-value would be at the clearest outcome possible with so few seeds."""

    @property
    def hopeless(self) -> bool:
        """No outcome at all could have been significant."""
        return self.least >= SURE


@dataclass(frozen=True, slots=True)
class Contest:
    """The reference against another arm, by goalposts that fell at as many draws."""

    arm: Arm
    plain: Judged
    solid: Judged


@dataclass(frozen=True, slots=True)
class Findings:
    terms: Terms
    arms: tuple[Arm, ...]
    """The reference first, then those without guidance, then those with it, then the untrained model."""
    metrics: tuple[Metric, ...]
    headline: Metric
    """The largest k, of the checkpoints chosen by it."""
    problems: int
    """Of the test split, on which all arms are measured."""
    left_out: int
    """Test problems of which some arm lacks draws."""
    advantages: tuple[Advantage, ...]
    contests: tuple[Contest, ...]
    unmatched: tuple[Arm, ...]
    """Arms whose goalposts had other draws than the reference's: not compared."""

    @property
    def reference(self) -> Arm:
        return self.arms[0]

    @property
    def results(self) -> list[ArmResult]:
        return [result for arm in self.arms for result in arm.results]


def findings(results: Sequence[ArmResult], reference: str = "") -> Findings:
    """All that a comparison says. The reference is the arm that the others are held against; by default gasp."""
    if not results:
        raise InputError("no arm has finished yet: there is nothing to compare")
    terms = results[0].terms
    names = _ordered(results, reference)
    ks = sorted(set(terms.ks))
    metrics = tuple(Metric(k, chosen_by) for k in ks if k <= terms.test_samples for chosen_by in ks)
    metrics = tuple(sorted(metrics, key=lambda metric: (metric.chosen_by, metric.k)))
    problems, left_out = _test_problems(results)
    arms = tuple(_arm(name, tuple(seeds_of(results, name)), metrics, problems) for name in names)
    matched = {arm.name: _matched(arms[0], arm) for arm in arms[1:]}
    return Findings(
        terms,
        arms,
        metrics,
        metrics[-1],
        len(problems),
        left_out,
        _advantages(arms, metrics, problems),
        _contests(arms[0], [arm for arm in arms[1:] if matched[arm.name]]),
        tuple(arm for arm in arms[1:] if not matched[arm.name]),
    )


def _ordered(results: Sequence[ArmResult], reference: str) -> list[str]:
    names = sorted({result.arm for result in results})
    guided = {result.arm for result in results if result.config.gasp is not None}
    untrained = {result.arm for result in results if result.config.steps == 0}
    if reference and reference not in names:
        raise InputError(f"no seed of {reference} has finished; there is {', '.join(names)}")
    first = reference or (GASP if GASP in names else min(guided or names))
    return sorted(names, key=lambda name: (name != first, name in untrained, name in guided, name))


def _arm(name: str, results: tuple[ArmResult, ...], metrics: Sequence[Metric], problems: Sequence[str]) -> Arm:
    terms = results[0].terms
    last = max(terms.ks)
    others = [k for k in sorted({*USUAL_KS, *terms.ks}) if k <= terms.test_samples]
    return Arm(
        name,
        results,
        tuple(_cell(results, metric, problems) for metric in metrics),
        tuple(_cell(results, Metric(k, last), problems) for k in others),
        _goalposts(results),
        _persistence(results),
        tuple(sorted(Counter(one for result in results for one in _solved(_confirmed(result), 1)).items())),
        _fallen(results, draws=2),
        _fallen(results, draws=1),
        tuple((k, _validation(results, k)) for k in sorted({1, last}) if k <= terms.samples),
        _over_k(results, terms, problems),
        Spent(
            sum(result.training_tokens for result in results),
            sum(result.training_seconds for result in results),
            sum(result.tokens for result in results),
            sum(result.seconds for result in results),
        ),
        _funnels(results),
    )


def _settings(result: ArmResult) -> object:
    return msgspec.to_builtins(replace(result.config, seed=0))


def _test_problems(results: Sequence[ArmResult]) -> tuple[list[str], int]:
    """Those with all their draws at every test, and how many others there are: what is compared is measured on the same."""
    tests = [tested.scores for result in results for tested in result.tested]
    every = list(dict.fromkeys(score.problem for scores in tests for score in scores))
    whole = Counter(s.problem for scores in tests for s in scores if s.samples >= results[0].terms.test_samples)
    kept = [problem for problem in every if whole[problem] == len(tests)]
    return kept, len(every) - len(kept)


def _tested(result: ArmResult, metric: Metric, problems: Sequence[str]) -> Values | None:
    """pass@k of each problem; None where no checkpoint was chosen by that k."""
    for tested in result.tested:
        if metric.chosen_by in tested.ks:
            scores = {score.problem: score for score in tested.scores}
            return [pass_at_k(scores[p].samples, scores[p].passes, metric.k) for p in problems]
    return None


def _matrix(results: Sequence[ArmResult], metric: Metric, problems: Sequence[str]) -> list[Values]:
    """Seeds by problems, of the seeds that were tested."""
    rows = (_tested(result, metric, problems) for result in results)
    return [row for row in rows if row]


def _cell(results: Sequence[ArmResult], metric: Metric, problems: Sequence[str]) -> Cell:
    values_SP = _matrix(results, metric, problems)
    return Cell(metric, tuple(fmean(row) for row in values_SP), mean_estimate(values_SP) if values_SP else None)


def _advantages(arms: Sequence[Arm], metrics: Sequence[Metric], problems: Sequence[str]) -> tuple[Advantage, ...]:
    headline = metrics[-1]
    wanted = {*metrics, *(replace(headline, k=k) for k in spread(arms[0].results[0].terms.test_samples))}
    found = [(arm, _differences(arms[0], arm, wanted, problems)) for arm in arms[1:]]
    tested = [(arm, estimates, estimates[headline]) for arm, estimates in found if headline in estimates]
    adjusted = iter(holm([estimate.p_value for _, _, estimate in tested if estimate.p_value is not None]))
    return tuple(Advantage(*one, None if one[-1].p_value is None else next(adjusted)) for one in tested)


def _differences(one: Arm, other: Arm, wanted: Iterable[Metric], problems: Sequence[str]) -> dict[Metric, Estimate]:
    """As far as both were tested."""
    pairs = ((at, _matrix(one.results, at, problems), _matrix(other.results, at, problems)) for at in wanted)
    return {at: difference_estimate(first_SP, second_TP) for at, first_SP, second_TP in pairs if first_SP and second_TP}


def _confirmed(result: ArmResult) -> Counter[str]:
    """Confirmed draws of each goalpost at all evaluations."""
    return sum((_at(point.goalposts) for point in result.points), Counter[str]())


def _at(scores: Sequence[Score]) -> Counter[str]:
    return Counter({score.problem: score.confirmed for score in scores if score.confirmed})


def _solved(confirmed: Counter[str], draws: int) -> set[str]:
    return {goalpost for goalpost, times in confirmed.items() if times >= draws}


def _tally(results: Sequence[ArmResult], draws: int) -> Tally:
    solved = [_solved(_confirmed(result), draws) for result in results]
    return Tally(tuple(len(one) for one in solved), len(set[str]().union(*solved)))


def _goalposts(results: Sequence[ArmResult]) -> Goalposts | None:
    asked = {score.problem for result in results for point in result.points for score in point.goalposts}
    if not asked:
        return None
    return Goalposts(len(asked), tuple(r.draws for r in results), _tally(results, 1), _tally(results, 2))


def _matched(one: Arm, other: Arm) -> bool:
    """As many draws of each goalpost in every run, but for the few that a fault of ours may have cost."""
    if one.goalposts is None or other.goalposts is None:
        return False
    draws = (*one.goalposts.draws, *other.goalposts.draws)
    return max(draws) - min(draws) <= 0.01 * max(draws)


def _contests(reference: Arm, others: Sequence[Arm]) -> tuple[Contest, ...]:
    plain, solid = (
        _judged([(_counts(reference, draws), _counts(other, draws)) for other in others]) for draws in (1, 2)
    )
    return tuple(Contest(*one) for one in zip(others, plain, solid, strict=True))


def _counts(arm: Arm, draws: int) -> tuple[int, ...]:
    return _tally(arm.results, draws).by_seed


def _judged(pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[Judged]:
    found = holm([permutation_test(first, second) for first, second in pairs])
    least = holm([least_p_value(len(first), len(second)) for first, second in pairs])  # Holm grows with each p
    return [Judged(*one) for one in zip(found, least, strict=True)]


def _persistence(results: Sequence[ArmResult]) -> Persistence:
    again = later = 0
    for result in results:
        evaluations = [_solved(_at(point.goalposts), 1) for point in result.points if point.goalposts]
        known: set[str] = set()
        for solved in evaluations:
            again += len(known & solved)
            later += len(known)
            known |= solved
    return Persistence(again, later)


def _spent(result: ArmResult) -> float:
    match result.terms.match:
        case Matched.TOKENS:
            return float(result.training_tokens)
        case Matched.SECONDS:
            return result.training_seconds


def _spent_by(result: ArmResult) -> list[float]:
    """What each evaluated version had cost, in what all arms spend the same of."""
    match result.terms.match:
        case Matched.TOKENS:
            return [float(point.tokens) for point in result.points]
        case Matched.SECONDS:
            return [point.seconds for point in result.points]


def _curve(seeds: Sequence[Sequence[Point]]) -> Curve:
    """The mean over seeds at each place: evaluations lie at equal shares of the budget, but for the end of an iteration."""
    whole = [tuple(points) for points in seeds if points]
    places = zip(*whole, strict=False)  # as far as all seeds came
    mean = tuple((float(round(fmean(x for x, _ in place))), fmean(y for _, y in place)) for place in places)
    return Curve(mean, tuple(whole))


def _fallen(results: Sequence[ArmResult], draws: int) -> Curve:
    return _curve([_fallen_of(result, draws) for result in results])


def _fallen_of(result: ArmResult, draws: int) -> list[Point]:
    """From nothing: what fell so far at each evaluation."""
    points: list[Point] = [(0.0, 0.0)]
    so_far: Counter[str] = Counter()
    for spent, point in zip(_spent_by(result), result.points, strict=True):
        if point.goalposts:
            so_far += _at(point.goalposts)
            points.append((spent, len(_solved(so_far, draws))))
    return points if len(points) > 1 else []


def _validation(results: Sequence[ArmResult], k: int) -> Curve:
    return _curve([_validation_of(result, k) for result in results])


def _validation_of(result: ArmResult, k: int) -> list[Point]:
    found = []
    for spent, point in zip(_spent_by(result), result.points, strict=True):
        if values := [pass_at_k(s.samples, s.passes, k) for s in point.validation if s.samples >= k]:
            found.append((spent, fmean(values)))
    return found


def _over_k(results: Sequence[ArmResult], terms: Terms, problems: Sequence[str]) -> Curve:
    """pass@k of the test split for some k up to all draws."""
    ks = spread(terms.test_samples)
    values = [_matrix(results, Metric(k, max(terms.ks)), problems) for k in ks]
    return _curve([
        [(float(k), fmean(values_SP[seed])) for k, values_SP in zip(ks, values, strict=True)]
        for seed in range(len(values[0]))
    ])  # fmt: skip


def spread(last: int) -> list[int]:
    """1 to last, ever farther apart: 1, 2, 3, 5, 7, 10, 20, ..."""
    steps = (k * 10**power for power in range(len(str(last))) for k in (1, 2, 3, 5, 7))
    return [*(k for k in steps if k < last), last]


def _funnels(results: Sequence[ArmResult]) -> tuple[Funnel, ...]:
    why: dict[str, Counter[Rejection]] = {}
    proposals: Counter[str] = Counter()
    for written in (written for result in results for written in result.written):
        proposals[written.rung] += written.proposals
        why.setdefault(written.rung, Counter()).update({lost.reason: lost.count for lost in written.lost})
    return tuple(Funnel(rung, proposals[rung], tuple(stages(proposals[rung], why[rung]))) for rung in why)
