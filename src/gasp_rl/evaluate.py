"""pass@k evidence: sample programs for problems, judge them, and confirm each solve in a fresh sandbox."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeAlias

from gasp_rl.config import GradeIsolation, GradeSemantics, GradingConfig
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.policy.respondent import Respondent
from gasp_rl.problem import Problem
from gasp_rl.rollout import Completion, Evaluation, Judgement, ProblemScore
from gasp_rl.sandbox.base import Sandbox
from gasp_rl.sandbox.grading import grade_problems
from gasp_rl.selfplay.prompts.base import ProblemPrompts
from gasp_rl.streams import seed_of


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer as it was written and judged, for people who want to see why a number is what it is."""

    problem: str
    text: str
    finished: bool
    judgement: Judgement
    detail: str = ""


Witness: TypeAlias = Callable[[Attempt], None]


def evaluate(
    policy: Respondent,
    prompts: ProblemPrompts,
    fresh_sandbox: Callable[[], Sandbox],
    problems: Sequence[Problem],
    samples: int,
    params: SamplingParams,
    *,
    split: str,
    step: int,
    seed: int,
    grading: GradingConfig = GradingConfig(),  # noqa: B008 - a frozen value
    witness: Witness = lambda _: None,
) -> Evaluation:
    """Draw `samples` programs per problem and judge them on all tests. A problem counts as solved when a program
    passes here and once more in another fresh sandbox; solid when two independently sampled programs do.
    """
    seeds = [seed_of(seed, "evaluate", split, step, problem.id) for problem in problems]
    scores = score_problems(
        policy, prompts, fresh_sandbox, problems, samples, params, seeds, grading=grading, witness=witness
    )
    found = {score.problem: score for score in scores}
    ordered = tuple(found[problem.id] for problem in problems)
    return Evaluation(step, split, params.temperature, ordered, sum(score.tokens for score in ordered))


def score_problems(
    policy: Respondent,
    prompts: ProblemPrompts,
    fresh_sandbox: Callable[[], Sandbox],
    problems: Sequence[Problem],
    samples: int,
    params: SamplingParams,
    seeds: Sequence[int],
    *,
    grading: GradingConfig,
    at_once: int | None = None,
    witness: Witness = lambda _: None,
) -> Iterator[ProblemScore]:
    """The scores of all problems, in the order in which their samples come, `at_once` of them judged together.

    Fewer at once are known sooner, and leave the sandbox idle more often. What is found does not depend on it.
    """
    drawn = policy.sample([prompts.ask_problem(problem) for problem in problems], samples, params, seeds)
    with ExitStack() as stack:
        sandbox = stack.enter_context(closing(fresh_sandbox()))
        another: Sandbox | None = None
        while True:
            tallies = _judged(policy, prompts, sandbox, problems, islice(drawn, at_once), grading, witness)
            if not tallies:
                return

            passing = [(place, program) for place, tally in tallies.items() for program in tally.passing]
            if passing and another is None:
                another = stack.enter_context(closing(fresh_sandbox()))
            confirmed = _confirmed(another, problems, passing, grading) if another else set()
            for place, tally in tallies.items():
                again = sorted(program for program in tally.passing if (place, program) in confirmed)
                yield ProblemScore(
                    problems[place].id, tally.judged, len(tally.passing), len(again), again[0] if again else "",
                    tally.truncated, tally.empty, tally.unreadable, tally.tokens,
                )  # fmt: skip


@dataclass(slots=True)
class _Tally:
    """What is known of one problem so far."""

    judged: int = 0
    truncated: int = 0
    empty: int = 0
    unreadable: int = 0
    tokens: int = 0
    passing: list[str] = field(default_factory=list)


def _judged(
    policy: Respondent,
    prompts: ProblemPrompts,
    sandbox: Sandbox,
    problems: Sequence[Problem],
    drawn: Iterator[tuple[int, list[Completion]]],
    grading: GradingConfig,
    witness: Witness,
) -> dict[int, _Tally]:
    """By place of the problem. Samples are drawn while the programs of earlier ones are being run."""
    tallies: dict[int, _Tally] = {}
    waiting: list[tuple[int, str, Completion]] = []

    def programs() -> Iterator[tuple[str, Problem]]:
        before = policy.sampled_tokens
        for place, completions in drawn:
            tally = tallies[place] = _Tally(tokens=policy.sampled_tokens - before)
            before = policy.sampled_tokens
            for completion in completions:
                tally.truncated += not completion.finished
                tally.empty += not completion.text.strip()
                program = prompts.read_program(completion.text)
                if isinstance(program, str):
                    waiting.append((place, program, completion))
                    yield program, problems[place]
                else:
                    tally.judged += 1
                    tally.unreadable += 1
                    witness(_attempt(problems[place], completion, Judgement.MALFORMED, program.reason))

    for index, verdict in grade_problems(sandbox, programs(), grading):
        place, program, completion = waiting[index]
        tallies[place].judged += verdict.judgement is not Judgement.SANDBOX_FAULT
        if verdict.judgement is Judgement.CORRECT:
            tallies[place].passing.append(program)
        witness(_attempt(problems[place], completion, verdict.judgement, verdict.detail))
    return tallies


def _attempt(problem: Problem, completion: Completion, judgement: Judgement, detail: str) -> Attempt:
    return Attempt(problem.id, completion.text, completion.finished, judgement, detail)


def _confirmed(
    sandbox: Sandbox, problems: Sequence[Problem], passing: Sequence[tuple[int, str]], grading: GradingConfig
) -> set[tuple[int, str]]:
    """Execute each distinct passing program once more, in processes that never saw the first run, one for each test."""
    distinct = sorted(set(passing))
    if grading.semantics is GradeSemantics.FAITHFUL:
        grading = replace(grading, isolation=GradeIsolation.TEST)
    verdicts = grade_problems(sandbox, [(program, problems[place]) for place, program in distinct], grading)
    return {distinct[index] for index, verdict in verdicts if verdict.judgement is Judgement.CORRECT}
