"""Measure a model that is not being trained: pass@k with intervals, broken down, and everything needed to do it again."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from statistics import fmean

from gasp_rl import __version__
from gasp_rl.build import fresh_sandbox, problem_set, problems_digest
from gasp_rl.config import EndpointConfig, ModelConfig, ReadingConfig, SamplingConfig, SandboxConfig
from gasp_rl.errors import ProblemFileError
from gasp_rl.evaluate import Attempt, evaluate
from gasp_rl.intervals import LEVEL, bootstrap_interval
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.problem import Problem
from gasp_rl.problems.forms.base import moment
from gasp_rl.progress import Observer
from gasp_rl.rollout import Evaluation, ProblemScore
from gasp_rl.runs.results import SCHEMA, ProblemFacts, ProblemsFacts, PromptFacts, Rate, Results, Stratum
from gasp_rl.sandbox.isolation import require_level
from gasp_rl.stats import pass_at_k
from gasp_rl.streams import seed_of
from gasp_rl.subject import open_subject

KS = (1, 5, 10, 20, 100)


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be measured."""

    problems: str
    """A file, or `micro`."""
    split: str
    """Of `micro`."""
    since: str
    until: str
    edges: tuple[str, ...]
    samples: int
    greedy: bool
    seed: int
    sampling: SamplingConfig
    reading: ReadingConfig


def measure(
    question: Question,
    model: ModelConfig,
    endpoint: EndpointConfig,
    sandbox: SandboxConfig,
    observer: Observer,
    witness: Callable[[str, Attempt], None],
) -> Results:
    """Ask the model, `samples` times at the temperature and, where wanted, once more for its most likely answer.

    `witness` is told of every answer, with `drawn` or `greedy`.
    """
    problems = chosen(
        problem_set(question.problems, question.split, question.reading, observer), question.since, question.until
    )
    isolation = sandbox.server or require_level(sandbox.min_level)
    with open_subject(model, endpoint, observer) as subject:

        def ask(name: str, samples: int, temperature: float) -> Evaluation:
            observer.phase(name, f"{len(problems)} problems")
            return evaluate(
                subject.respondent, subject.prompts, lambda: fresh_sandbox(sandbox, observer), problems, samples,
                SamplingParams(question.sampling.max_tokens, temperature, subject.prompts.stop),
                split=question.split, step=subject.facts.step, seed=seed_of(question.seed, "evaluation", name),
                grading=sandbox.grading, witness=lambda attempt: witness(name, attempt),
            )  # fmt: skip

        drawn = ask("drawn", question.samples, question.sampling.temperature) if question.samples else None
        greedy = ask("greedy", 1, 0.0) if question.greedy else None
        facts = tuple(ProblemFacts(p.id, p.difficulty, p.date, p.source) for p in problems)
        named = ProblemsFacts(
            question.problems, question.split, problems_digest(problems), facts, question.since, question.until
        )
        return Results(
            SCHEMA, __version__, subject.facts, PromptFacts(subject.prompts.name, subject.prompts.digest), named,
            question.sampling, question.samples, question.seed, sandbox.grading, isolation, LEVEL,
            strata(facts, drawn, greedy, question.edges), drawn, greedy,
        )  # fmt: skip


def chosen(problems: Sequence[Problem], since: str, until: str) -> tuple[Problem, ...]:
    """Those with `since` <= date < `until`, as far as these are given, in UTC."""
    if not since and not until:
        return tuple(problems)
    first, end = moment(since), moment(until)
    dated = [(problem, when) for problem in problems if (when := moment(problem.date))]
    found = tuple(p for p, when in dated if (first is None or when >= first) and (end is None or when < end))
    if not found:
        dates = sorted(p.date for p in problems if p.date)
        known = f"their dates are {dates[0]} to {dates[-1]}" if dates else "none has a date"
        window = f"from {since or 'the beginning'} to before {until or 'the end'}"
        raise ProblemFileError(f"no problem is {window}: of {len(problems)} problems {known}")
    return found


def strata(
    facts: Sequence[ProblemFacts], drawn: Evaluation | None, greedy: Evaluation | None, edges: Sequence[str]
) -> tuple[Stratum, ...]:
    """All problems, then by difficulty, and by the windows between `edges` or, without any, by month.

    A breakdown that would have one part only is left out.
    """
    found = [_stratum("all", "all", {one.id for one in facts}, drawn, greedy)]
    for by, names in (
        ("difficulty", {one.id: one.difficulty for one in facts}),
        (
            "window" if edges else "month",
            {one.id: _window(one.date, edges) if edges else one.date[:7] for one in facts},
        ),
    ):
        kinds = sorted(set(names.values()), key=_in_order)
        for kind in kinds if len(kinds) > 1 else []:
            members = {problem for problem, name in names.items() if name == kind}
            found.append(_stratum(by, kind or "not given", members, drawn, greedy))
    return tuple(found)


def _window(date: str, edges: Sequence[str]) -> str:
    """Half open: a date that is an edge begins a window."""
    when = moment(date)
    if when is None:
        return ""
    below = [edge for edge in edges if (begins := moment(edge)) and begins <= when]
    above = [edge for edge in edges if edge not in below]
    if not below:
        return f"before {above[0]}"
    return f"{below[-1]} to before {above[0]}" if above else f"{below[-1]} and later"


def _in_order(name: str) -> tuple[object, ...]:
    """easy, medium, hard; numbers by size; what is not given last."""
    known = ("before", "easy", "medium", "hard")
    first = name.split(maxsplit=1)[0].lower() if name else ""
    place = known.index(first) if first in known else len(known)
    return (
        not name,
        place,
        [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)],
    )


def _stratum(
    by: str, name: str, members: Collection[str], drawn: Evaluation | None, greedy: Evaluation | None
) -> Stratum:
    scores = [score for score in (drawn or greedy or NOTHING).scores if score.problem in members]
    rates = _rates(scores, KS) if drawn else ()
    once = _rates([score for score in greedy.scores if score.problem in members], (1,)) if greedy else ()
    return Stratum(by, name, len(members), sum(score.solved for score in scores), rates, once[0] if once else None)


def _rates(scores: Sequence[ProblemScore], ks: Sequence[int]) -> tuple[Rate, ...]:
    """For each k that was drawn for at least one problem; problems with fewer samples are left out, and not counted."""
    rates = []
    for k in ks:
        values = [pass_at_k(score.samples, score.passes, k) for score in scores if score.samples >= k]
        if values:
            interval = bootstrap_interval(values)
            rates.append(Rate(k, fmean(values), interval.low, interval.high, len(values)))
    return tuple(rates)


NOTHING = Evaluation(0, "", 0.0, ())
