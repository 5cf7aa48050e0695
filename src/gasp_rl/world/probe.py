"""Measure a model of the embedded world, quickly: pass rates by depth and rarity, quality of what it proposes.

Programs are judged by reading them back as compositions, never by running them: nothing the model wrote is executed.
A program outside the fixed form counts as wrong, so these numbers are lower bounds of the sandbox's (close ones: the
model seldom writes anything else).
"""

import ast
import contextlib
import itertools
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import tyro

from gasp_rl.config import LEMMA, LIFT, ModelConfig, RungConfig
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.policy.local import LocalEngine
from gasp_rl.policy.policy import Policy
from gasp_rl.problem import Problem
from gasp_rl.problems.microcode.draw import NORMAL, Prior, draw_composition, draw_examples, output_of
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

MICRO_MODEL = ModelConfig()
MAX_TOKENS = 160
PUBLIC = 2
PAIRS = 5


@dataclass(frozen=True, slots=True)
class ProbeConfig:
    seed: int = 0
    samples: int = 10
    """Per problem, at temperature 1."""
    proposals: int = 120
    """Lemmas, and lifts, asked for."""
    goalposts: int = 120
    goalpost_samples: int = 100
    goalpost_temperature: float = 0.6


QUICK = ProbeConfig()


def ask(policy: Policy, prompts: Sequence[Prompt], n: int, seed: int, name: str,
        temperature: float = 1.0) -> list[list[str]]:
    """Replies to every prompt, n each; one that was cut off is empty."""
    replies: list[list[str]] = [[] for _ in prompts]
    seeds = [seed_of(seed, "probe", name, place) for place in range(len(prompts))]
    for place, completions in policy.sample(prompts, n, SamplingParams(MAX_TOKENS, temperature), seeds):
        replies[place] = [c.text if c.finished else "" for c in completions]
    return replies


def writes(text: str, wanted: Composition) -> bool:
    """Whether the program is the wanted function, as far as the probes can tell."""
    written = read_program(text)
    return written is not None and written.rows == wanted.rows and behaviour(written) == behaviour(wanted)


def question(composition: Composition, rng: random.Random) -> Prompt | None:
    examples = draw_examples(composition, PUBLIC, NORMAL, rng)
    if examples is None:
        return None
    shown = tuple(Pair(repr(value), repr(output)) for value, output in examples)
    return MICRO.ask(Task(Kind.INDUCTION, "", message=composition.statement, shown=shown))


def pass_rates(policy: Policy, compositions: Sequence[Composition], n: int, seed: int, name: str) -> list[float]:
    """Share of n programs that do what the composition does, for each that examples can be found for."""
    asked = [(c, q) for place, c in enumerate(compositions)
             if (q := question(c, stream(seed, "probe", name, "pairs", place))) is not None]
    replies = ask(policy, [q for _, q in asked], n, seed, name)
    return [sum(writes(text, c) for text in texts) / n for (c, _), texts in zip(asked, replies, strict=True)]


def histogram(rates: Sequence[float]) -> str:
    """Counts in ten equal intervals."""
    counts = [0] * 10
    for rate in rates:
        counts[min(int(rate * 10), 9)] += 1
    return " ".join(map(str, counts))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def problem_rates(policy: Policy, problems: Sequence[Problem], n: int, seed: int, name: str,
                  temperature: float = 1.0) -> list[float]:
    replies = ask(policy, [MICRO.ask_problem(problem) for problem in problems], n, seed, name, temperature)
    rates: list[float] = []
    for problem, texts in zip(problems, replies, strict=True):
        wanted = read_program(problem.reference)
        assert wanted is not None, f"{problem.id} has a reference that is not of the world"
        rates.append(sum(writes(text, wanted) for text in texts) / n)
    return rates


def solving(policy: Policy, cfg: ProbeConfig) -> None:
    problems = load("validation")
    rates = problem_rates(policy, problems, cfg.samples, cfg.seed, "validation")
    by_depth: dict[str, list[float]] = defaultdict(list)
    for problem, rate in zip(problems, rates, strict=True):
        by_depth[problem.difficulty].append(rate)
    print(f"validation pass@1 {mean(rates):.2f}")
    for depth, of_depth in sorted(by_depth.items()):
        print(f"  {depth}: {mean(of_depth):.2f}   problems by tenth of pass rate: {histogram(of_depth)}")


def operations(policy: Policy, cfg: ProbeConfig) -> None:
    """How often each operation is written rightly where a two-step program has it."""
    even = Prior(exponent=0.0, reducer=0.25)
    compositions = [draw_composition(even, 2, stream(cfg.seed, "operations", place)) for place in range(500)]
    asked = [(c, q) for place, c in enumerate(compositions)
             if (q := question(c, stream(cfg.seed, "operations", "pairs", place))) is not None]
    right: dict[str, list[float]] = defaultdict(list)
    for (wanted, _), texts in zip(asked, ask(policy, [q for _, q in asked], 6, cfg.seed, "operations"), strict=True):
        for text in texts:
            written = read_program(text)
            for place, name in enumerate(wanted.names):
                right[name].append(written is not None and place < written.depth and written.names[place] == name)
    for table in (OPERATIONS, REDUCERS):
        print("  " + ", ".join(f"{op.name} {mean(right[op.name]):.2f}" for op in table))


def literals(policy: Policy, cfg: ProbeConfig) -> None:
    """Deduction and abduction on programs drawn like those of pretraining, and on evenly mixed ones."""
    for name, exponent in (("zipf", 1.1), ("mixed", 0.3)):
        prior = Prior(exponent)
        right: dict[Kind, list[float]] = defaultdict(list)
        for kind in (Kind.DEDUCTION, Kind.ABDUCTION):
            drawn: list[tuple[Composition, Pair]] = []
            for place in range(150):
                rng = stream(cfg.seed, "literals", name, kind.value, place)
                composition = draw_composition(prior, rng.choice((1, 2, 2, 3)), rng, rows=0.25)
                examples = draw_examples(composition, 1, NORMAL, rng)
                if examples is not None:
                    drawn.append((composition, Pair(repr(examples[0][0]), repr(examples[0][1]))))
            prompts = [MICRO.ask(Task(kind, "", program=c.program, shown=(pair,))) for c, pair in drawn]
            for (composition, pair), texts in zip(drawn, ask(policy, prompts, 2, cfg.seed, f"{name} {kind}"), strict=True):
                for text in texts:
                    answer = MICRO.read_literal(text)
                    right[kind].append(isinstance(answer, str) and (
                        answer == pair.output if kind is Kind.DEDUCTION else _gives(composition, answer, pair.output)))
        print(f"{name}: " + ", ".join(f"{kind} {mean(values):.2f}" for kind, values in right.items()))


def _gives(composition: Composition, text: str, output: str) -> bool:
    value = read_input(text)
    if value is None or any(isinstance(item, list) != composition.rows for item in value):
        return False
    return repr(output_of(composition, value)) == output


def read_input(text: str) -> list[int] | list[list[int]] | None:
    """A list of numbers or of rows of numbers; None for anything else."""
    value = ast.literal_eval(text) if isinstance(MICRO.read_literal(text), str) else None
    if not isinstance(value, list):
        return None
    if all(type(item) is int for item in value):
        return value
    rows = all(type(item) is list and all(type(number) is int for number in item) for item in value)
    return value if rows else None


@dataclass(frozen=True, slots=True)
class Written:
    """A proposal that could be read and is honest, with what it was made from."""

    draft: Draft
    composition: Composition
    axis: Axis


def proposals(policy: Policy, cfg: ProbeConfig, rung: RungConfig, prompts: Sequence[tuple[Prompt, Axis]],
              max_source: Sequence[int]) -> list[Written]:
    texts = [reply[0] for reply in ask(policy, [prompt for prompt, _ in prompts], 1, cfg.seed, rung.name)]
    faults: dict[str, int] = defaultdict(int)
    written: list[Written] = []
    readable = valid = 0
    for text, (_, axis) in zip(texts, prompts, strict=True):
        draft = MICRO.read_proposal(text, PAIRS)
        if isinstance(draft, Unreadable):
            faults[draft.reason] += 1
            continue
        readable += 1
        composition = read_program(draft.program)
        told = read_statement(draft.message)
        if composition is None:
            faults["program not of the world"] += 1
            continue
        if any((value := read_input(i)) is None or any(isinstance(v, list) != composition.rows for v in value)
               for i in draft.inputs):
            faults["inputs do not suit the program"] += 1
            continue
        valid += 1
        if told is None or not honest(draft.message, draft.program):
            faults["dishonest"] += 1
            continue
        written.append(Written(draft, told, axis))
    total = len(texts)
    print(f"{rung.name}: readable {readable / total:.2f}, valid {valid / total:.2f}, honest {len(written) / total:.2f}; "
          + ", ".join(f"{reason} {count}" for reason, count in sorted(faults.items(), key=lambda f: -f[1])[:4]))
    depths = [w.composition.depth for w in written]
    print(f"  depths {[depths.count(d) for d in range(1, 8)]}, rows {mean([w.composition.rows for w in written]):.2f}, "
          f"source depth {mean(list(max_source)):.1f}")
    asked = [MICRO.ask(Task(Kind.INDUCTION, "", message=w.draft.message, shown=tuple(
        Pair(text, repr(output_of(w.composition, value)))
        for text in w.draft.inputs[:PUBLIC] if (value := read_input(text)) is not None))) for w in written]
    rates = [sum(writes(text, w.composition) for text in reply) / cfg.samples for w, reply in
             zip(written, ask(policy, asked, cfg.samples, cfg.seed, rung.name + " rates"), strict=True)]
    in_band = [rung.band.holds(round(rate * cfg.samples), cfg.samples) for rate in rates]
    print(f"  in band {mean(in_band):.2f}, mean pass rate {mean(rates):.2f}, by tenth: {histogram(rates)}")
    return [w for w, holds in zip(written, in_band, strict=True) if holds]


def teaching(policy: Policy, cfg: ProbeConfig) -> None:
    """Lemmas of goalposts, then lifts of the lemmas that fell in the band."""
    goalposts = load("goalposts")
    rng = stream(cfg.seed, "teaching")
    chosen = [rng.choice(goalposts) for _ in range(cfg.proposals)]
    axes = list(itertools.islice(itertools.cycle(Axis), cfg.proposals))
    lemmas = proposals(policy, cfg, LEMMA, [(MICRO.teach(LEMMA, axis, goalpost, None, PAIRS), axis)
                                            for goalpost, axis in zip(chosen, axes, strict=True)],
                       [int(goalpost.difficulty.removeprefix("depth-")) for goalpost in chosen])
    sources = [rng.choice(lemmas) for _ in range(cfg.proposals)] if lemmas else []
    prompts = [(MICRO.teach(LIFT, w.axis, None, Proposal("", "lemma", "", message=w.draft.message,
                                                       program=w.draft.program), PAIRS), w.axis) for w in sources]
    proposals(policy, cfg, LIFT, prompts, [w.composition.depth for w in sources])


def goalposts(policy: Policy, cfg: ProbeConfig) -> None:
    problems = load("goalposts")[:cfg.goalposts]
    rates = problem_rates(policy, problems, cfg.goalpost_samples, cfg.seed, "goalposts", cfg.goalpost_temperature)
    by_depth: dict[str, list[float]] = defaultdict(list)
    for problem, rate in zip(problems, rates, strict=True):
        by_depth[problem.difficulty].append(rate)
    print(f"goalposts: pass@{cfg.goalpost_samples} = 0 for {sum(rate == 0 for rate in rates)} of {len(rates)}, "
          f"pass@1 {mean(rates):.4f} at temperature {cfg.goalpost_temperature}")
    for depth, of_depth in sorted(by_depth.items()):
        print(f"  {depth}: never solved {sum(r == 0 for r in of_depth)} of {len(of_depth)}, pass@1 {mean(of_depth):.4f}")


def probe(policy: Policy, cfg: ProbeConfig) -> None:
    """Print what the model can do."""
    solving(policy, cfg)
    operations(policy, cfg)
    literals(policy, cfg)
    teaching(policy, cfg)
    goalposts(policy, cfg)


def main(model: ModelConfig = MICRO_MODEL, cfg: ProbeConfig = QUICK) -> None:
    """Measure a model of the embedded world: `python -m gasp_rl.world.probe --model.path DIR`."""
    with contextlib.closing(LocalEngine.open(model)) as engine:
        probe(Policy(engine), cfg)


if __name__ == "__main__":
    tyro.cli(main)
