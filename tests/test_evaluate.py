"""When does a problem count as solved?"""

from gasp_rl.evaluate import evaluate
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.policy.policy import EnginePolicy
from gasp_rl.policy.scripted import ScriptedEngine
from gasp_rl.problem import Problem, TestCase
from gasp_rl.rollout import Evaluation
from gasp_rl.sandbox.base import Execution, Job, Result, Sandbox, Status
from gasp_rl.sandbox.scripted import ScriptedSandbox
from gasp_rl.selfplay.prompts.micro import MICRO

PROBLEMS = [
    Problem(name, name, (TestCase("[1]", "1"),), (TestCase("[2]", "2"),))
    for name in ("always", "twice", "once", "flaky")
]


def program(word: str) -> str:
    return f"def f(x):\n    return {word}"


def reply(prompt: str, sample: int, _: int) -> str:
    if "always" in prompt or ("twice" in prompt and sample < 2) or ("once" in prompt and sample == 3):
        return program("right")
    if "flaky" in prompt:
        return program("flaky") if sample == 0 else "no program"
    return program("wrong")


class Sandboxes:
    """Every sandbox made is new; `flaky` is right only in the first."""

    def __init__(self) -> None:
        self.made: list[ScriptedSandbox] = []

    def __call__(self) -> Sandbox:
        first = not self.made

        def execute(job: Job) -> Execution:
            right = "right" in job.source or ("flaky" in job.source and first)
            values = [text.strip("[]") if right else "0" for text in job.inputs]
            return Execution(Status.OK, tuple(Result(Status.OK, value) for value in values))

        self.made.append(ScriptedSandbox(execute))
        return self.made[-1]


def run(sandboxes: Sandboxes) -> Evaluation:
    policy = EnginePolicy(ScriptedEngine(reply))
    return evaluate(
        policy, MICRO, sandboxes, PROBLEMS, 4, SamplingParams(99), split="goalposts", step=3, seed=0
    )  # fmt: skip


def test_samples_that_pass_are_counted_per_problem() -> None:
    scores = {score.problem: (score.samples, score.passes) for score in run(Sandboxes()).scores}

    assert scores == {"always": (4, 4), "twice": (4, 2), "once": (4, 1), "flaky": (4, 1)}


def test_a_solve_must_be_repeated_in_another_fresh_sandbox() -> None:
    sandboxes = Sandboxes()

    evaluation = run(sandboxes)

    assert len(sandboxes.made) == 2
    assert evaluation.solved == ["always", "twice", "once"]


def test_a_solid_solve_takes_two_independent_samples() -> None:
    assert [score.problem for score in run(Sandboxes()).scores if score.solid] == ["always", "twice"]


def test_the_program_that_solved_is_kept_as_evidence() -> None:
    evidence = {score.problem: score.program for score in run(Sandboxes()).scores}

    assert evidence == {"always": program("right"), "twice": program("right"), "once": program("right"), "flaky": ""}


def test_a_fault_of_ours_is_not_a_sample() -> None:
    def down() -> Sandbox:
        return ScriptedSandbox(lambda _: Execution(Status.INFRA, (), "no worker"))

    evaluation = evaluate(
        EnginePolicy(ScriptedEngine(reply)), MICRO, down, PROBLEMS[:1], 4, SamplingParams(99), split="test", step=0, seed=0
    )  # fmt: skip

    assert [(score.samples, score.passes) for score in evaluation.scores] == [(0, 0)]
