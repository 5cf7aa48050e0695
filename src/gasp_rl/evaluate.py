"""pass@k evidence: sample programs for problems, judge them, and confirm each solve in a fresh sandbox."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from gasp_rl.config import GradeIsolation, GradeSemantics, GradingConfig
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.policy.policy import Policy
from gasp_rl.problem import Problem
from gasp_rl.rollout import Evaluation, Judgement, ProblemScore
from gasp_rl.sandbox.base import Sandbox
from gasp_rl.sandbox.grading import grade_problems
from gasp_rl.selfplay.prompts.base import PromptSet
from gasp_rl.streams import seed_of


def evaluate(
    policy: Policy,
    prompts: PromptSet,
    fresh_sandbox: Callable[[], Sandbox],
    problems: Sequence[Problem],
    samples: int,
    params: SamplingParams,
    *,
    split: str,
    step: int,
    seed: int,
    grading: GradingConfig = GradingConfig(),  # noqa: B008 - a frozen value
) -> Evaluation:
    """Draw `samples` programs per problem and judge them on all tests. A problem counts as solved when a program
    passes here and once more in another fresh sandbox; solid when two independently sampled programs do.
    """
    asked = [prompts.ask_problem(problem) for problem in problems]
    seeds = [seed_of(seed, "evaluate", split, step, problem.id) for problem in problems]
    before = policy.sampled_tokens
    judged: Counter[int] = Counter()
    passing: list[tuple[int, str]] = []
    waiting: list[tuple[int, str]] = []

    def programs() -> Iterator[tuple[str, Problem]]:
        for place, completions in policy.sample(asked, samples, params, seeds):
            for completion in completions:
                program = prompts.read_program(completion.text)
                if isinstance(program, str):
                    waiting.append((place, program))
                    yield program, problems[place]
                else:
                    judged[place] += 1

    with closing(fresh_sandbox()) as sandbox:
        for index, verdict in grade_problems(sandbox, programs(), grading):
            place, program = waiting[index]
            judged[place] += verdict.judgement is not Judgement.SANDBOX_FAULT
            if verdict.judgement is Judgement.CORRECT:
                passing.append((place, program))

    confirmed = _confirm(fresh_sandbox, problems, passing, grading)
    scores = []
    for place, problem in enumerate(problems):
        passed = sorted(program for where, program in passing if where == place)
        again = [program for program in passed if (place, program) in confirmed]
        scores.append(ProblemScore(problem.id, judged[place], len(passed), len(again), again[0] if again else ""))
    return Evaluation(step, split, params.temperature, tuple(scores), policy.sampled_tokens - before)


def _confirm(
    fresh_sandbox: Callable[[], Sandbox],
    problems: Sequence[Problem],
    passing: Sequence[tuple[int, str]],
    grading: GradingConfig,
) -> set[tuple[int, str]]:
    """Execute each distinct passing program once more, in processes that never saw the first run, one for each test."""
    distinct = sorted(set(passing))
    if not distinct:
        return set()
    if grading.semantics is GradeSemantics.FAITHFUL:
        grading = replace(grading, isolation=GradeIsolation.TEST)
    with closing(fresh_sandbox()) as sandbox:
        verdicts = grade_problems(sandbox, [(program, problems[place]) for place, program in distinct], grading)
        return {distinct[index] for index, verdict in verdicts if verdict.judgement is Judgement.CORRECT}
