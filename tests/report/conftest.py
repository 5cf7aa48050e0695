"""A run and a comparison made by hand: what they look like in the embedded world, without a model."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest

from gasp_rl.config import LEMMA, LIFT, AzrConfig, GaspConfig, Matched, RlvrConfig, RunConfig, RungConfig
from gasp_rl.rollout import (
    Answer,
    Axis,
    Evaluation,
    Iteration,
    Judgement,
    Kind,
    Pair,
    Phase,
    ProblemScore,
    Proposal,
    Rejection,
    UpdateStats,
)
from gasp_rl.runs.arms import SCHEMA, ArmResult, Chosen, Lost, Point, Score, Terms, Written
from gasp_rl.runs.journal import (
    Digests,
    EvaluationRecord,
    Finished,
    GoalpostText,
    IterationRecord,
    Journal,
    Record,
    Started,
)

OPERATIONS = [
    ("sort ascending", "x = sorted(x)"),
    ("drop the first 2", "x = x[2:]"),
    ("add 3 to each", "x = [v + 3 for v in x]"),
    ("keep those above 4", "x = [v for v in x if v > 4]"),
    ("take running sums", "x = [sum(x[:i + 1]) for i in range(len(x))]"),
    ("swap the ends", "x = x[-1:] + x[1:-1] + x[:1] if len(x) > 1 else x"),
    ("drop repeats", "x = list(dict.fromkeys(x))"),
    ("square each", "x = [v * v for v in x]"),
]

FAULTS = [
    (Rejection.MALFORMED, "no inputs after the program"),
    (Rejection.INVALID, "IndexError: list index out of range"),
    (Rejection.NONDETERMINISTIC, "two runs gave [1, 2] and [2, 1]"),
    (Rejection.DUPLICATE, "0.981 to an accepted lemma"),
    (Rejection.TOO_HARD, ""),
    (Rejection.TOO_EASY, ""),
]


def _written(rng: random.Random, depth: int) -> tuple[str, str, tuple[Pair, ...]]:
    """A message, its program, and what the program gives."""
    chosen = rng.sample(OPERATIONS, depth)
    program = "def f(x):\n" + "".join(f"    {line}\n" for _, line in chosen) + "    return x"
    inputs = [[rng.randint(-9, 18) for _ in range(rng.randint(2, 6))] for _ in range(5)]
    pairs = tuple(Pair(str(x), str(sorted(x)[2:])) for x in inputs)
    return ", then ".join(words for words, _ in chosen), program, pairs


def _proposal(rng: random.Random, name: str, rung: RungConfig, *, goalpost: str, parent: str, depth: int) -> Proposal:
    message, program, pairs = _written(rng, depth)
    text = f"{message}\n{program}\n# inputs\n" + "\n".join(p.input for p in pairs)
    axis = rng.choice(list(Axis))
    if rng.random() < 0.45:
        passes = rng.randint(rung.band.low, rung.band.high)
        return Proposal(
            name, rung.name, text, axis, goalpost, parent, message, program, pairs,
            passes=passes, tries=10, reward=4 * passes / 10 * (1 - passes / 10),
        )  # fmt: skip
    rejection, detail = rng.choice(FAULTS)
    tried = rejection in {Rejection.TOO_HARD, Rejection.TOO_EASY}
    readable = rejection is not Rejection.MALFORMED
    return Proposal(
        name, rung.name, text, axis, goalpost, parent, message * readable, program * readable, pairs * tried,
        rejection, detail, similarity=0.981 * (rejection is Rejection.DUPLICATE),
        passes=(10 if rejection is Rejection.TOO_EASY else 0) * tried, tries=10 * tried, reward=-0.5 if tried else -1.0,
    )  # fmt: skip


def _update(rng: random.Random, phase: str, step: int) -> UpdateStats:
    return UpdateStats(
        phase, 40, 2900, -0.4 + 0.02 * step + rng.uniform(-0.1, 0.1), 0.01, 0.8, 0.4, 0.02, skipped=False
    )


def _iteration(rng: random.Random, step: int, goalposts: list[GoalpostText], tries: int) -> Iteration:
    drawn = rng.sample(goalposts, min(6, len(goalposts)))
    lemmas = [
        _proposal(rng, f"lemma-{step}-{g.id}-{i}", LEMMA, goalpost=g.id, parent=g.id, depth=3)
        for g in drawn
        for i in range(tries)
    ]
    lifts = [
        _proposal(rng, f"lift-{lemma.id}-{i}", LIFT, goalpost=lemma.goalpost, parent=lemma.id, depth=4)
        for lemma in lemmas
        if lemma.accepted
        for i in range(2)
    ]
    answers = []
    for proposal in [p for p in [*lemmas, *lifts] if p.accepted]:
        kind = rng.choice([Kind.INDUCTION, Kind.DEDUCTION, Kind.ABDUCTION])
        right = rng.random() < 0.4 + 0.01 * step
        answers.append(
            Answer(
                kind, proposal.id, proposal.program if kind is Kind.INDUCTION else "[7, 12, 19]",
                Judgement.CORRECT if right else Judgement.WRONG, "" if right else "hidden pair 2: [3] instead of [4]",
                1.0 if right else -0.5,
            )
        )  # fmt: skip
    return Iteration(
        step,
        (
            Phase("lemma", tuple(lemmas), (), _update(rng, "lemma", step), 41_000),
            Phase("lift", tuple(lifts), (), _update(rng, "lift", step), 30_500),
            Phase("practice", (), tuple(answers), _update(rng, "practice", step), 9_700),
        ),
    )


def _goalpost_scores(rng: random.Random, step: int, goalposts: list[GoalpostText], samples: int) -> Evaluation:
    scores = []
    for place, goalpost in enumerate(goalposts):
        likely = step > 0 and place % 4 == 1 and rng.random() < step / 30
        confirmed = rng.randint(1, 6) if likely else 0
        scores.append(
            ProblemScore(goalpost.id, samples, confirmed, confirmed, "def f(x):\n    return x" if likely else "")
        )
    return Evaluation(step, "goalposts", 1.0, tuple(scores), samples * len(goalposts) * 60)


def _validation(rng: random.Random, step: int) -> Evaluation:
    scores = [
        ProblemScore(f"v{i}", 32, passes := min(32, max(0, round(rng.gauss(4 + step / 6 + i % 9, 3)))), passes)
        for i in range(40)
    ]
    return Evaluation(step, "validation", 1.0, tuple(scores), 76_000)


def hand_made_run(steps: int = 20, goalposts: int = 16, tries: int = 4, seed: int = 0) -> Journal:
    rng = random.Random(seed)
    texts = [
        GoalpostText(f"micro/goalposts/{i:03}", _written(rng, 7)[0], "microcode", "depth-7") for i in range(goalposts)
    ]
    config = RunConfig(recipe="micro-gasp", steps=steps, gasp=GaspConfig(goalposts_per_step=6))
    records: list[Record] = [
        Started(config, "0.1.0", Digests("6f1c" * 16, "a04e" * 16, "77b2" * 16, "0e9d" * 16), tuple(texts)),
        EvaluationRecord(_validation(rng, 0)),
        EvaluationRecord(_goalpost_scores(rng, 0, texts, 32)),
    ]
    for step in range(1, steps + 1):
        records.append(IterationRecord(_iteration(rng, step, texts, tries)))
        if step % 5 == 0:
            records.append(EvaluationRecord(_validation(rng, step)))
            records.append(EvaluationRecord(_goalpost_scores(rng, step, texts, 32)))
    base = [ProblemScore(t.id, 32 * (steps // 5), int(i == 1), int(i == 1)) for i, t in enumerate(texts)]
    records.append(EvaluationRecord(Evaluation(0, "matched_base", 1.0, tuple(base), 123_000)))
    return Journal((*records, Finished()))


@pytest.fixture
def make_run() -> Callable[..., Journal]:
    """Makes a hand-made run of any size."""
    return hand_made_run


@pytest.fixture(scope="session")
def run() -> Journal:
    return hand_made_run()


@dataclass(frozen=True)
class Learner:
    """How an arm of a hand-made comparison does."""

    config: RunConfig
    gain: float
    """Of the pass rate of a test problem, at the end."""
    falls: float
    """Share of goalposts within its reach at the end."""
    rungs: tuple[str, ...] = ()


LEARNERS = {
    "gasp": Learner(RunConfig("micro-gasp", gasp=GaspConfig()), 0.30, 0.45, ("lemma", "lift")),
    "azr": Learner(RunConfig("micro-azr", azr=AzrConfig()), 0.12, 0.02, ("deduction", "abduction", "induction")),
    "rlvr": Learner(RunConfig("micro-rlvr", rlvr=RlvrConfig()), 0.22, 0.03),
    "random-reward": Learner(RunConfig("micro-random-reward", rlvr=RlvrConfig(reward="coin")), 0.02, 0.01),
    "gasp-rlvr": Learner(
        RunConfig("micro-gasp-rlvr", gasp=GaspConfig(), rlvr=RlvrConfig()), 0.33, 0.5, ("lemma", "lift")
    ),
    "untrained": Learner(RunConfig("micro-untrained", rlvr=RlvrConfig(), steps=0), 0.0, 0.0),
    "no-io-axis": Learner(RunConfig("micro-no-io-axis", gasp=GaspConfig(axes=("f",))), 0.27, 0.33, ("lemma", "lift")),
}

TERMS = Terms(
    Matched.TOKENS, 2_000_000, 6, 20, 100, (1, 20), 1.0, 200, 1.5e-4, "6f1c" * 16, "a04e" * 16, "77b2" * 16, "0e9d" * 16, "51ab" * 16,
    "9c3e" * 16,
)  # fmt: skip


def _scores(rng: random.Random, rates: list[float], name: str, samples: int) -> tuple[Score, ...]:
    scores = []
    for place, rate in enumerate(rates):
        passes = sum(rng.random() < rate for _ in range(samples))
        scores.append(Score(f"micro/{name}/{place:03}", samples, passes, passes))
    return tuple(scores)


def _rung(rng: random.Random, rung: str) -> Written:
    proposals = rng.randint(1500, 2200)
    shares = [(Rejection.MALFORMED, 0.02), (Rejection.INVALID, 0.06), (Rejection.DUPLICATE, 0.25),
              (Rejection.TOO_HARD, 0.18), (Rejection.TOO_EASY, 0.4)]  # fmt: skip
    lost = tuple(Lost(reason, int(proposals * share * rng.uniform(0.8, 1.2))) for reason, share in shares)
    return Written(rung, proposals, proposals - sum(one.count for one in lost), lost)


def hand_made_arm(arm: str, seed: int, terms: Terms, goalposts: int, problems: int) -> ArmResult:
    learner = LEARNERS[arm]
    trained = learner.config.steps > 0
    rng = random.Random(f"{arm} {seed}")
    world = random.Random(0)
    ease = [world.betavariate(0.3, 0.9) for _ in range(problems)]
    luck = rng.uniform(0.8, 1.2)

    def solving(share: float) -> list[float]:
        return [min(1.0, e + learner.gain * share * luck * (1 - e) * min(1.0, 0.1 + 2 * e)) for e in ease]

    def falling(share: float) -> list[float]:
        reach = learner.falls * share * luck
        return [max(0.0, (reach - place / goalposts) * rng.uniform(0, 0.5)) for place in range(goalposts)]

    def point(share: float, samples: int) -> Point:
        tokens = int(terms.budget * share) + rng.randint(0, 30_000) if share else 0
        validation = _scores(rng, solving(share)[:60], "validation", samples)
        asked = _scores(rng, falling(share), "goalposts", samples)
        return Point(round(share * 30), tokens, round(0.9e-3 * tokens), validation, asked)

    shares = [i / terms.evaluations for i in range(1, terms.evaluations + 1)]
    points = [point(share, terms.samples) for share in shares]
    if not trained:
        points = [point(0.0, terms.samples * terms.evaluations)]
    tested = [
        Chosen(points[place].step, ks, _scores(rng, solving(share), "test", terms.test_samples))
        for place, share, ks in ([(-2, shares[-2], terms.ks[:1]), (-1, 1.0, terms.ks[1:])] if trained else [(0, 0.0, terms.ks)])
    ]  # fmt: skip
    return ArmResult(
        SCHEMA, arm, seed, terms, replace(learner.config, seed=seed), "0.1.0", "1f2e3d4a5b", "AMD EPYC 7763, 2 cores, 1 for the model",
        30 + seed % 3 if trained else 0, tuple(points), tuple(tested), tuple(_rung(rng, rung) for rung in learner.rungs),
        points[-1].tokens, points[-1].seconds, points[-1].tokens + 5_000_000, points[-1].seconds + 2_000.0,
    )  # fmt: skip


def hand_made_comparison(
    seeds: Mapping[str, int], terms: Terms = TERMS, goalposts: int = 24, problems: int = 30
) -> tuple[ArmResult, ...]:
    return tuple(
        hand_made_arm(arm, seed, terms, goalposts, problems) for arm, count in seeds.items() for seed in range(count)
    )


@pytest.fixture(scope="session")
def make_comparison() -> Callable[..., tuple[ArmResult, ...]]:
    """Makes a hand-made comparison of so many seeds of each arm."""
    return hand_made_comparison


@pytest.fixture(scope="session")
def arms() -> tuple[ArmResult, ...]:
    terms = replace(TERMS, samples=20, test_samples=20)
    return hand_made_comparison({"gasp": 5, "azr": 5, "random-reward": 3, "rlvr": 3}, terms)
