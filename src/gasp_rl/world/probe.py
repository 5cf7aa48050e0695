"""Measure a model of the embedded world, quickly: pass rates by depth and operation, quality of what it proposes.

    python -m gasp_rl.world.probe --model.path DIR

Programs are judged by reading them back as compositions, never by running them: nothing the model wrote is executed.
A program outside the fixed form counts as wrong, so these numbers are lower bounds of the sandbox's (close ones: the
model seldom writes anything else).
"""

import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import tyro

from gasp_rl.config import LEMMA, LIFT, ModelConfig, RungConfig
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.policy.local import LocalEngine
from gasp_rl.policy.policy import EnginePolicy, Policy
from gasp_rl.problem import Problem
from gasp_rl.problems.microcode.draw import (
    NORMAL,
    Prior,
    draw_composition,
    draw_examples,
    fits,
    output_of,
    read_input,
)
from gasp_rl.problems.microcode.operations import (
    OPERATIONS,
    REDUCERS,
    Composition,
    behaviour,
    honest,
    read_program,
    read_statement,
)
from gasp_rl.problems.microcode.splits import load
from gasp_rl.rollout import Axis, Kind, Pair, Prompt, Proposal, Task
from gasp_rl.selfplay.prompts.base import Draft, Unreadable
from gasp_rl.selfplay.prompts.micro import MICRO
from gasp_rl.streams import seed_of, stream
from gasp_rl.world.corpus import CorpusConfig


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    seed: int = 0
    samples: int = 10
    """Per problem, at temperature 1."""
    compositions: int = 400
    """Behind the accuracy of the single operations, and of each kind of literal."""
    proposals: int = 120
    """Lemmas, and lifts, asked for."""
    candidates: int = 240
    """Candidates for goalposts that are tried."""
    candidate_samples: int = 100
    candidate_temperature: float = 0.6
    max_tokens: int = 200


QUICK = ProbeConfig()
PUBLIC = CorpusConfig().public_pairs
PAIRS = CorpusConfig().pairs


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def tenths(rates: Sequence[float]) -> str:
    """How many pass rates lie in each tenth of the interval from 0 to 1."""
    counts = Counter(min(int(rate * 10), 9) for rate in rates)
    return " ".join(str(counts[tenth]) for tenth in range(10))


def ask(
    policy: Policy, prompts: Sequence[Prompt], n: int, cfg: ProbeConfig, name: str, temperature: float = 1.0
) -> list[list[str]]:
    """Replies to every prompt, n each; one that was cut off is empty."""
    replies: list[list[str]] = [[] for _ in prompts]
    seeds = [seed_of(cfg.seed, "probe", name, place) for place in range(len(prompts))]
    for place, completions in policy.sample(prompts, n, SamplingParams(cfg.max_tokens, temperature), seeds):
        replies[place] = [completion.text if completion.finished else "" for completion in completions]
    return replies


def writes(text: str, wanted: Composition) -> bool:
    """Whether the program is the wanted function, as far as the probes can tell."""
    written = read_program(text)
    return written is not None and written.rows == wanted.rows and behaviour(written) == behaviour(wanted)


def question(composition: Composition, rng: random.Random) -> Prompt | None:
    """The student's prompt for it; None where no two examples show anything."""
    examples = draw_examples(composition, PUBLIC, NORMAL, rng)
    if examples is None:
        return None
    shown = tuple(Pair(repr(value), repr(output)) for value, output in examples)
    return MICRO.ask(Task(Kind.INDUCTION, "", message=composition.statement, shown=shown))


def answers(
    policy: Policy, compositions: Sequence[Composition], cfg: ProbeConfig, name: str
) -> list[tuple[Composition, list[str]]]:
    """Each composition that can be asked, with the programs written for it."""
    asked = [
        (composition, prompt)
        for place, composition in enumerate(compositions)
        if (prompt := question(composition, stream(cfg.seed, "probe", name, "pairs", place))) is not None
    ]
    replies = ask(policy, [prompt for _, prompt in asked], cfg.samples, cfg, name)
    return [(composition, texts) for (composition, _), texts in zip(asked, replies, strict=True)]


def problem_rates(
    policy: Policy, problems: Sequence[Problem], n: int, cfg: ProbeConfig, temperature: float = 1.0
) -> dict[str, list[float]]:
    """Pass rates of the problems, by difficulty."""
    replies = ask(policy, [MICRO.ask_problem(problem) for problem in problems], n, cfg, "problems", temperature)
    rates: dict[str, list[float]] = defaultdict(list)
    for problem, texts in zip(problems, replies, strict=True):
        wanted = read_program(problem.reference)
        assert wanted is not None, f"{problem.id} has a reference that is not of the world"
        rates[problem.difficulty].append(mean([writes(text, wanted) for text in texts]))
    return dict(sorted(rates.items()))


def operation_accuracy(policy: Policy, cfg: ProbeConfig) -> dict[str, float]:
    """How often each operation is written where a program of two steps, all operations alike, has it."""
    even = Prior(exponent=0.0, reducer=0.25)
    compositions = [
        draw_composition(even, 2, stream(cfg.seed, "operations", place)) for place in range(cfg.compositions)
    ]
    right: dict[str, list[float]] = defaultdict(list)
    for wanted, texts in answers(policy, compositions, cfg, "operations"):
        for written in map(read_program, texts):
            for place, name in enumerate(wanted.names):
                right[name].append(written is not None and place < written.depth and written.names[place] == name)
    return {operation.name: mean(right[operation.name]) for operation in OPERATIONS + REDUCERS}


def literal_accuracy(policy: Policy, kind: Kind, cfg: ProbeConfig) -> float:
    """Deduction or abduction, on programs of one to three steps from the prior of the roles that solve."""
    prior = Prior(CorpusConfig().solving_exponent)
    drawn: list[tuple[Composition, Pair]] = []
    for place in range(cfg.compositions):
        rng = stream(cfg.seed, "literals", kind.value, place)
        composition = draw_composition(prior, rng.choice((1, 2, 2, 3)), rng, rows=0.25)
        if examples := draw_examples(composition, 1, NORMAL, rng):
            drawn.append((composition, Pair(repr(examples[0][0]), repr(examples[0][1]))))

    prompts = [MICRO.ask(Task(kind, "", program=composition.program, shown=(pair,))) for composition, pair in drawn]
    replies = ask(policy, prompts, 1, cfg, kind.value)
    return mean(
        [
            text == pair.output if kind is Kind.DEDUCTION else _gives(composition, text, pair.output)
            for (composition, pair), (text,) in zip(drawn, replies, strict=True)
        ]
    )


def _gives(composition: Composition, text: str, output: str) -> bool:
    value = read_input(text)
    return value is not None and fits(value, composition) and repr(output_of(composition, value)) == output


@dataclass(frozen=True, slots=True)
class Written:
    """An honest proposal and how often it was solved."""

    axis: Axis
    draft: Draft
    composition: Composition
    """As its message says."""
    rate: float


@dataclass(slots=True)
class Proposals:
    """What came of asking for proposals."""

    asked: int
    written: list[Written]
    faults: Counter[str] = field(default_factory=Counter)
    """Why the others were no honest proposals."""

    def in_band(self, rung: RungConfig, tries: int) -> list[Written]:
        return [written for written in self.written if rung.band.holds(round(written.rate * tries), tries)]


def read_honest(text: str, faults: Counter[str]) -> tuple[Draft, Composition] | None:
    """The proposal if it can be read, runs on its inputs and says what it does; else its fault is counted."""
    draft = MICRO.read_proposal(text, PAIRS)
    if isinstance(draft, Unreadable):
        faults[draft.reason] += 1
        return None
    program, told = read_program(draft.program), read_statement(draft.message)
    inputs = [read_input(literal) for literal in draft.inputs]
    if program is None or any(value is None or not fits(value, program) for value in inputs):
        faults["invalid"] += 1
    elif told is None or not honest(draft.message, draft.program):
        faults["dishonest"] += 1
    else:
        return draft, told
    return None


def propose(policy: Policy, rung: RungConfig, prompts: Sequence[tuple[Axis, Prompt]], cfg: ProbeConfig) -> Proposals:
    """One proposal per prompt, the honest ones tried by the student."""
    faults: Counter[str] = Counter()
    replies = ask(policy, [prompt for _, prompt in prompts], 1, cfg, rung.name)
    read = [
        (axis, *proposal)
        for (axis, _), (text,) in zip(prompts, replies, strict=True)
        if (proposal := read_honest(text, faults)) is not None
    ]

    asked = [
        MICRO.ask(
            Task(
                Kind.INDUCTION,
                "",
                message=draft.message,
                shown=tuple(
                    Pair(text, repr(output_of(composition, value)))
                    for text in draft.inputs[:PUBLIC]
                    if (value := read_input(text)) is not None
                ),
            )
        )
        for _, draft, composition in read
    ]
    tries = ask(policy, asked, cfg.samples, cfg, f"{rung.name} tries")
    written = [
        Written(axis, draft, composition, mean([writes(text, composition) for text in texts]))
        for (axis, draft, composition), texts in zip(read, tries, strict=True)
    ]
    return Proposals(len(prompts), written, faults)


def show_rates(title: str, by_difficulty: dict[str, list[float]]) -> None:
    rates = [rate for of_difficulty in by_difficulty.values() for rate in of_difficulty]
    print(f"{title}: pass@1 {mean(rates):.4f}, never solved {rates.count(0.0)} of {len(rates)}")
    for difficulty, of_difficulty in by_difficulty.items():
        print(
            f"  {difficulty}: pass@1 {mean(of_difficulty):.4f}, never solved {of_difficulty.count(0.0)} of "
            f"{len(of_difficulty)}, by tenth of pass rate: {tenths(of_difficulty)}"
        )


def show_proposals(rung: RungConfig, proposals: Proposals, cfg: ProbeConfig) -> None:
    written, count = proposals.written, proposals.asked
    depths = Counter(w.composition.depth for w in written)
    faults = ", ".join(f"{reason} {times}" for reason, times in proposals.faults.most_common(4))
    print(f"{rung.name}: honest {len(written) / count:.2f} of {count}; {faults}")
    print(f"  depths {dict(sorted(depths.items()))}, rows {mean([w.composition.rows for w in written]):.2f}")
    print(
        f"  in band {len(proposals.in_band(rung, cfg.samples)) / count:.2f} of {count}, mean pass rate "
        f"{mean([w.rate for w in written]):.2f}, by tenth: {tenths([w.rate for w in written])}"
    )


def probe(policy: Policy, cfg: ProbeConfig) -> None:
    """Print what the model can do."""
    show_rates("validation", problem_rates(policy, load("validation"), cfg.samples, cfg))
    accuracy = operation_accuracy(policy, cfg)
    print("operations: " + ", ".join(f"{name} {share:.2f}" for name, share in accuracy.items()))
    print(", ".join(f"{kind} {literal_accuracy(policy, kind, cfg):.2f}" for kind in (Kind.DEDUCTION, Kind.ABDUCTION)))

    rng = stream(cfg.seed, "teaching")
    candidates, axes = load("candidates"), list(Axis)
    lemmas = propose(
        policy,
        LEMMA,
        [
            (axis, MICRO.teach(LEMMA, axis, rng.choice(candidates), None, PAIRS))
            for axis in (axes[place % len(axes)] for place in range(cfg.proposals))
        ],
        cfg,
    )
    show_proposals(LEMMA, lemmas, cfg)
    if accepted := lemmas.in_band(LEMMA, cfg.samples):
        drawn = [rng.choice(accepted) for _ in range(cfg.proposals)]
        below = [Proposal("", LEMMA.name, "", message=w.draft.message, program=w.draft.program) for w in drawn]
        lifts = [(w.axis, MICRO.teach(LIFT, w.axis, None, p, PAIRS)) for w, p in zip(drawn, below, strict=True)]
        show_proposals(LIFT, propose(policy, LIFT, lifts, cfg), cfg)

    show_rates(
        f"candidates, {cfg.candidate_samples} samples at temperature {cfg.candidate_temperature}",
        problem_rates(policy, candidates[: cfg.candidates], cfg.candidate_samples, cfg, cfg.candidate_temperature),
    )


def main(model: ModelConfig = ModelConfig(), cfg: ProbeConfig = QUICK) -> None:  # noqa: B008  (a frozen value)
    """Measure a model of the embedded world."""
    with contextlib.closing(LocalEngine.open(model)) as engine:
        probe(EnginePolicy(engine), cfg)


if __name__ == "__main__":
    tyro.cli(main)
