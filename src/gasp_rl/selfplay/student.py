"""The student: asked a task, it answers; the sandbox and the judge outside it say what the answer is worth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gasp_rl.config import GradingConfig
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.policy.policy import Policy
from gasp_rl.problem import Problem
from gasp_rl.progress import Observer
from gasp_rl.rollout import (
    Answer,
    Completion,
    Judgement,
    Kind,
    Prompt,
    Proposal,
    Role,
    Rollout,
    RolloutGroup,
    Task,
)
from gasp_rl.sandbox.base import Sandbox
from gasp_rl.sandbox.grading import grade_problems
from gasp_rl.sandbox.judge import Verdict, grade_abduction, grade_deduction, grade_pairs
from gasp_rl.selfplay.prompts.base import PromptSet, Unreadable
from gasp_rl.selfplay.rewards import AnswerReward


@dataclass(frozen=True, slots=True)
class Tried:
    """How often a task was solved, and the answers themselves, for a recipe that learns from them too.

    Faults of ours are no tries; a prompt that does not fit the context has none.
    """

    passes: int
    tries: int
    group: RolloutGroup
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Practice:
    """What the student was asked in a phase and what it earned."""

    groups: tuple[RolloutGroup, ...] = ()
    answers: tuple[Answer, ...] = ()
    sampled_tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Judged:
    completion: Completion
    judgement: Judgement
    detail: str


class Student:
    """The policy in its student's role. Holds collaborators only; what was learned lives in the policy's weights."""

    def __init__(
        self,
        policy: Policy,
        sandbox: Sandbox,
        prompts: PromptSet,
        params: SamplingParams,
        observer: Observer,
        grading: GradingConfig = GradingConfig(),  # noqa: B008 - a frozen value
    ) -> None:
        self._policy = policy
        self._sandbox = sandbox
        self._prompts = prompts
        self._params = params
        self._observer = observer
        self._grading = grading

    def attempt(self, tasks: Sequence[Task], tries: int, seeds: Sequence[int], reward: AnswerReward) -> list[Tried]:
        """Estimate pass rates: `tries` independent answers to each task, at the training temperature."""
        tried = []
        for task, judged in zip(tasks, self._answer(tasks, tries, seeds), strict=True):
            counted = [one.judgement for one in judged if one.judgement is not Judgement.SANDBOX_FAULT]
            passes = sum(judgement is Judgement.CORRECT for judgement in counted)
            group = self._group(task, judged, reward)
            tried.append(Tried(passes, len(counted), group, _answers(task, judged, group)))
        return tried

    def practise(self, tasks: Sequence[Task], n: int, seeds: Sequence[int], reward: AnswerReward) -> Practice:
        """Answer each task `n` times, to be trained on."""
        groups: list[RolloutGroup] = []
        answers: list[Answer] = []
        before = self._policy.sampled_tokens
        for task, judged in zip(tasks, self._answer(tasks, n, seeds), strict=True):
            group = self._group(task, judged, reward)
            groups.append(group)
            answers += _answers(task, judged, group)
        for answer in answers:
            self._observer.answer(answer)
        return Practice(tuple(groups), tuple(answers), self._policy.sampled_tokens - before)

    def _group(self, task: Task, judged: Sequence[_Judged], reward: AnswerReward) -> RolloutGroup:
        prompt = self._policy.encode(ask(self._prompts, task))
        rollouts = tuple(
            Rollout(
                one.completion,
                reward(task, place, one.judgement),
                masked=one.judgement is Judgement.SANDBOX_FAULT,
            )
            for place, one in enumerate(judged)
        )
        return RolloutGroup(Role.STUDENT, task.kind, prompt, rollouts)

    def _answer(self, tasks: Sequence[Task], n: int, seeds: Sequence[int]) -> list[list[_Judged]]:
        """Sample and judge, one kind of task at a time; programs run while later answers are still being sampled."""
        judged: dict[tuple[int, int], _Judged] = {}
        for kind in Kind:
            places = [place for place, task in enumerate(tasks) if task.kind is kind]
            if places:
                self._answer_kind(kind, places, tasks, n, seeds, judged)
        return [[judged[key] for s in range(n) if (key := (place, s)) in judged] for place in range(len(tasks))]

    def _answer_kind(
        self,
        kind: Kind,
        places: Sequence[int],
        tasks: Sequence[Task],
        n: int,
        seeds: Sequence[int],
        judged: dict[tuple[int, int], _Judged],
    ) -> None:
        prompts = [ask(self._prompts, tasks[place]) for place in places]
        stream = self._policy.sample(prompts, n, self._params, [seeds[place] for place in places])
        waiting: list[tuple[tuple[int, int], Completion]] = []

        def readable() -> Iterator[tuple[Task, str]]:
            for index, completions in stream:
                for sample, completion in enumerate(completions):
                    key = (places[index], sample)
                    match read_answer(self._prompts, kind, completion.text):
                        case Unreadable(reason):
                            judged[key] = _Judged(completion, Judgement.MALFORMED, reason)
                        case str(answer):
                            waiting.append((key, completion))
                            yield tasks[places[index]], answer

        for index, verdict in grade_answers(self._sandbox, kind, readable(), self._grading):
            key, completion = waiting[index]
            judged[key] = _Judged(completion, verdict.judgement, verdict.detail)


def _answers(task: Task, judged: Sequence[_Judged], group: RolloutGroup) -> tuple[Answer, ...]:
    return tuple(
        Answer(
            task.kind, task.source, one.completion.text, one.judgement, one.detail, rollout.reward,
            len(one.completion.tokens),
        )
        for one, rollout in zip(judged, group.rollouts, strict=True)
    )  # fmt: skip


def ask(prompts: PromptSet, task: Task) -> Prompt:
    return prompts.ask(task) if task.problem is None else prompts.ask_problem(task.problem)


def read_answer(prompts: PromptSet, kind: Kind, text: str) -> str | Unreadable:
    match kind:
        case Kind.INDUCTION | Kind.PROBLEM:
            return prompts.read_program(text)
        case Kind.DEDUCTION | Kind.ABDUCTION:
            return prompts.read_literal(text)


def grade_answers(
    sandbox: Sandbox, kind: Kind, answers: Iterator[tuple[Task, str]], grading: GradingConfig
) -> Iterator[tuple[int, Verdict]]:
    """Judge answers of one kind as they come, in the order they finish."""
    match kind:
        case Kind.INDUCTION:
            yield from grade_pairs(sandbox, ((program, task.hidden) for task, program in answers))
        case Kind.DEDUCTION:
            yield from enumerate(grade_deduction(literal, task.hidden[0].output) for task, literal in answers)
        case Kind.ABDUCTION:
            yield from grade_abduction(sandbox, ((t.program, literal, t.hidden[0].output) for t, literal in answers))
        case Kind.PROBLEM:
            yield from grade_problems(sandbox, ((program, t.problem) for t, program in answers if t.problem), grading)


def induction(proposal: Proposal, public_pairs: int) -> Task:
    """Message and public pairs -> the program; all hidden pairs decide."""
    return Task(
        Kind.INDUCTION,
        proposal.id,
        message=proposal.message,
        shown=proposal.pairs[:public_pairs],
        hidden=proposal.pairs[public_pairs:],
    )


def deduction(proposal: Proposal, pair: int) -> Task:
    """Program and one input -> its output."""
    one = (proposal.pairs[pair],)
    return Task(Kind.DEDUCTION, proposal.id, program=proposal.program, shown=one, hidden=one)


def abduction(proposal: Proposal, pair: int) -> Task:
    """Program and one output -> any input that gives it."""
    one = (proposal.pairs[pair],)
    return Task(Kind.ABDUCTION, proposal.id, program=proposal.program, shown=one, hidden=one)


def real(problem: Problem) -> Task:
    """A real problem -> a program; all its tests decide."""
    return Task(Kind.PROBLEM, problem.id, problem=problem)
