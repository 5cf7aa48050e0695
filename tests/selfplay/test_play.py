"""The promises of the game, one test each. A change that breaks one changes what training does.

The teacher and the student here follow a script; programs are run by a scripted sandbox that knows them by heart.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from gasp_rl.config import LEMMA, FirewallConfig, GaspConfig, LearnConfig, RungConfig, StudentRewards
from gasp_rl.curriculum.buffer import PracticeBuffer
from gasp_rl.curriculum.deck import GoalpostDeck
from gasp_rl.learn.learner import Learner
from gasp_rl.loop import gasp_iteration
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.policy.policy import EnginePolicy
from gasp_rl.policy.scripted import ScriptedEngine
from gasp_rl.problem import Problem, TestCase
from gasp_rl.progress import Silent
from gasp_rl.rollout import Axis, Iteration, Judgement, Kind, LikenessKind, Pair, Proposal, Rejection, Task
from gasp_rl.sandbox.base import Execution, Job, Result, Status
from gasp_rl.sandbox.scripted import ScriptedSandbox
from gasp_rl.selfplay.firewall import Firewall
from gasp_rl.selfplay.novelty import HashedEmbedder, NoveltyArchive
from gasp_rl.selfplay.play import Play
from gasp_rl.selfplay.prompts.base import Draft, Unreadable
from gasp_rl.selfplay.student import Student, abduction, deduction, induction
from gasp_rl.selfplay.teacher import Teacher

GOALPOSTS = [Problem(f"goal{i}", f"statement {i}", (), ()) for i in range(4)]

PROGRAMS: dict[str, Callable[[int], int]] = {
    "def f(x):\n    return x + 1": lambda x: x + 1,
    "def f(y):\n    total = 0\n    for i in range(y):\n        total += i * i\n    return total": lambda y: sum(
        i * i for i in range(y)
    ),
    "def f(x):\n    while x % 7:\n        x = x * 3 + 1\n    return [x]": lambda x: x,
    "def f(x):\n    return -1": lambda _: -1,
}
EASY, SQUARES, LOOP, WRONG = PROGRAMS
INPUTS = ("1", "2", "3", "4", "5")


@dataclass
class Prompts:
    """`teach` writes what it was given; a proposal is `message|program number`, an answer the number of a program."""

    name: str = "test"
    digest: str = "test"
    stop: tuple[str, ...] = ()
    taught: list[tuple[str, str, Problem | None, Proposal | None]] = field(default_factory=list)
    asked: list[Task] = field(default_factory=list)

    def teach(
        self, rung: RungConfig, axis: Axis, goalpost: Problem | None, previous: Proposal | None, pairs: int
    ) -> str:
        self.taught.append((rung.name, axis, goalpost, previous))
        return f"teach {rung.name} {axis} {goalpost.id if goalpost else '-'} {previous.id if previous else '-'}"

    def propose_freely(self, kind: Kind, references: Sequence[Proposal], pairs: int) -> str:
        raise AssertionError("guided play never proposes freely")

    def read_free_proposal(
        self, kind: Kind, references: Sequence[Proposal], text: str, pairs: int
    ) -> Draft | Unreadable:
        raise AssertionError("guided play never proposes freely")

    def ask(self, task: Task) -> str:
        self.asked.append(task)
        return f"ask {task.kind} {task.message}"

    def ask_problem(self, problem: Problem) -> str:
        return f"solve {problem.id}"

    def read_proposal(self, text: str, pairs: int) -> Draft | Unreadable:
        message, _, program = text.partition("|")
        return Draft(message, list(PROGRAMS)[int(program)], INPUTS) if program else Unreadable("no program")

    def read_program(self, text: str) -> str | Unreadable:
        return list(PROGRAMS)[int(text)] if text.isdigit() else Unreadable("not a number")

    def read_literal(self, text: str) -> str | Unreadable:
        return text


def run_by_heart(job: Job) -> Execution:
    function = PROGRAMS[job.source]
    results = tuple(Result(Status.OK, str(function(int(text)))) for text in job.inputs)
    return Execution(Status.OK, results)


@dataclass
class Game:
    play: Play
    engine: ScriptedEngine
    prompts: Prompts
    sandbox: ScriptedSandbox

    def iterate(self, step: int = 1) -> Iteration:
        return gasp_iteration(self.play, Learner(self.engine, LearnConfig(), 1.0), self.play.cfg, step)


def game(
    reply: Callable[[str, int, int], str],
    cfg: GaspConfig,
    execute: Callable[[Job], Execution] = run_by_heart,
    seed: int = 0,
    held_out: tuple[Problem, ...] = (),
    firewall: FirewallConfig = FirewallConfig(),  # noqa: B008 - a frozen value
) -> Game:
    engine, prompts, sandbox = ScriptedEngine(reply), Prompts(), ScriptedSandbox(execute)
    policy, params, observer = EnginePolicy(engine), SamplingParams(64), Silent()
    student = Student(policy, sandbox, prompts, params, observer)
    archive = NoveltyArchive(HashedEmbedder(), cfg.novelty)
    wall = Firewall(held_out, sandbox, HashedEmbedder(), firewall)
    teacher = Teacher(policy, sandbox, prompts, params, archive, wall, student, StudentRewards(), observer)
    play = Play(
        policy, teacher, student, GoalpostDeck(GOALPOSTS, seed), archive, PracticeBuffer(cfg.buffer_capacity), cfg,
        StudentRewards(), seed, observer,
    )  # fmt: skip
    return Game(play, engine, prompts, sandbox)


SMALL = GaspConfig(goalposts_per_step=2, max_attempts=1, min_programs=2, practice_per_step=6)


def solves(program: int, times: int) -> Callable[[str, int, int], str]:
    """A student that answers with `program` in its first `times` tries and with a wrong one after."""
    return lambda _, sample, __: str(program if sample < times else 3)


def teacher_writes(program_of: Callable[[str], int], student: Callable[[str, int, int], str]) -> Callable[..., str]:
    def reply(prompt: str, sample: int, seed: int) -> str:
        if prompt.startswith("teach"):
            return f"message for {prompt}|{program_of(prompt)}"
        return student(prompt, sample, seed)

    return reply


def half_solved(prompt: str, sample: int, seed: int) -> str:
    """Every proposal is the program of squares, or the loop for a lift; the student is right every second time."""
    if prompt.startswith("teach"):
        return f"{prompt}|{2 if 'lift' in prompt else 1}"
    return str((2 if "lift" in prompt else 1) if sample % 2 else 3)


def test_an_accepted_lemma_carries_its_pass_rate_reward_and_executed_pairs() -> None:
    iteration = game(half_solved, replace(SMALL, goalposts_per_step=1, min_programs=1)).iterate()

    lemma = iteration.phases[0].proposals[0]

    assert lemma.accepted
    assert (lemma.passes, lemma.tries, lemma.reward) == (5, 10, 1.0)
    assert [pair.output for pair in lemma.pairs] == ["0", "1", "5", "14", "30"]


def test_a_lift_is_shown_its_lemma_and_never_the_goalpost() -> None:
    one = game(half_solved, SMALL)

    iteration = one.iterate()

    lemmas = {p.id: p for p in iteration.phases[0].proposals}
    shown = [(goalpost, previous) for name, _, goalpost, previous in one.prompts.taught if name == "lift"]
    assert shown
    assert all(goalpost is None and previous is not None and previous.id in lemmas for goalpost, previous in shown)


def test_a_lift_keeps_the_axis_and_the_goalpost_of_its_lemma() -> None:
    cfg = replace(SMALL, goalposts_per_step=4, novelty=replace(SMALL.novelty, threshold=1.0))
    lemmas, lifts = (phase.proposals for phase in game(half_solved, cfg).iterate().phases[:2])

    below = {p.id: p for p in lemmas}

    assert lifts
    assert all((p.axis, p.goalpost) == (below[p.parent].axis, below[p.parent].goalpost) for p in lifts)


def test_both_axes_are_drawn() -> None:
    play = game(half_solved, SMALL).play

    axes = [foothold.axis for step in range(20) for foothold in play.draw_goalposts(4, step)]

    assert 25 < axes.count(Axis.IO) < 55


def test_a_malformed_proposal_earns_minus_one_and_costs_neither_execution_nor_tries() -> None:
    one = game(lambda prompt, *_: "nonsense" if prompt.startswith("teach") else "1", SMALL)

    iteration = one.iterate()

    assert [(p.rejection, p.reward) for p in iteration.phases[0].proposals] == [(Rejection.MALFORMED, -1.0)] * 2
    assert one.sandbox.jobs == []
    assert one.prompts.asked == []


def test_a_program_that_differs_between_two_runs_is_refused_before_the_student_sees_it() -> None:
    flips = iter(range(10**6))

    def moody(job: Job) -> Execution:
        return Execution(Status.OK, tuple(Result(Status.OK, str(next(flips))) for _ in job.inputs))

    one = game(teacher_writes(lambda _: 1, solves(1, 5)), SMALL, execute=moody)

    proposals = one.iterate().phases[0].proposals

    assert {(p.rejection, p.reward) for p in proposals} == {(Rejection.NONDETERMINISTIC, -1.0)}
    assert one.prompts.asked == []


def test_a_program_that_fails_on_its_own_inputs_is_invalid() -> None:
    def broken(job: Job) -> Execution:
        failed = Result(Status.RUNTIME_ERROR, detail="ZeroDivisionError")
        return Execution(Status.RUNTIME_ERROR, (failed,), "ZeroDivisionError")

    proposals = game(teacher_writes(lambda _: 1, solves(1, 5)), SMALL, execute=broken).iterate().phases[0].proposals

    assert {p.rejection for p in proposals} == {Rejection.INVALID}
    assert "ZeroDivisionError" in proposals[0].detail


def test_a_duplicate_is_refused_before_any_try_is_spent_on_it() -> None:
    one = game(lambda prompt, sample, seed: half_solved(prompt.replace("teach", "teach"), sample, seed), SMALL)
    first = one.iterate(1)
    tried = len([t for t in one.prompts.asked if t.kind is Kind.INDUCTION])

    again = one.play.propose(LEMMA, one.play.draw_goalposts(2, 2), 2)

    assert first.phases[0].proposals[0].accepted
    duplicates = [p for p in again.proposals if p.rejection is Rejection.DUPLICATE]
    assert len(duplicates) >= 1
    assert all((p.tries, p.reward) == (0, -0.5) and p.neighbour for p in duplicates)
    assert tried > 0


@pytest.mark.parametrize(
    ("times", "rejection"), [(0, "too_hard"), (2, "too_hard"), (3, None), (7, None), (8, "too_easy"), (10, "too_easy")]
)
def test_only_lemmas_inside_the_band_are_accepted(times: int, rejection: str | None) -> None:
    cfg = replace(SMALL, goalposts_per_step=1, min_programs=1)
    one = game(teacher_writes(lambda _: 1, solves(1, times)), cfg)

    lemma = one.iterate().phases[0].proposals[0]

    assert (lemma.rejection, lemma.passes, lemma.tries) == (rejection, times, 10)
    assert len(one.play.buffer) == (rejection is None)
    if rejection:
        assert lemma.reward == -0.5


def test_without_rejection_sampling_everything_valid_is_accepted_and_rewarded_as_before() -> None:
    cfg = replace(SMALL, goalposts_per_step=1, min_programs=1, rejection_sampling=False)

    lemma = game(teacher_writes(lambda _: 1, solves(1, 10)), cfg).iterate().phases[0].proposals[0]

    assert lemma.accepted
    assert lemma.reward == -0.5


def test_each_phase_makes_one_update() -> None:
    one = game(half_solved, SMALL)

    iteration = one.iterate()

    assert [phase.name for phase in iteration.phases] == ["lemma", "lift", "practice"]
    made = [phase.update for phase in iteration.phases if phase.update and not phase.update.skipped]
    assert len(one.engine.learned) == len(made)


def test_a_sandbox_fault_is_masked_and_never_scored() -> None:
    def down(job: Job) -> Execution:
        return Execution(Status.INFRA, (), "no worker")

    one = game(teacher_writes(lambda _: 1, solves(1, 5)), SMALL, execute=down)

    iteration = one.iterate()

    assert {p.rejection for p in iteration.phases[0].proposals} == {Rejection.SANDBOX_FAULT}
    assert one.engine.learned == []


def test_a_goalpost_gets_four_tries_then_a_new_axis_then_four_more_then_the_next_one() -> None:
    cfg = GaspConfig(goalposts_per_step=1, max_attempts=9, min_programs=9, axes=("f",))
    one = game(lambda prompt, *_: "nonsense", cfg)

    one.iterate()

    tried = [goalpost.id for name, _, goalpost, _ in one.prompts.taught if goalpost]
    assert tried == [tried[0]] * 8 + [tried[8]]
    assert tried[8] != tried[0]


def test_the_axis_is_drawn_anew_after_four_failed_tries_and_not_before() -> None:
    cfg = GaspConfig(goalposts_per_step=8, max_attempts=8, min_programs=64)
    one = game(lambda prompt, *_: "nonsense", cfg)

    one.iterate()

    axes = [axis for _, axis, _, _ in one.prompts.taught]
    rounds = [axes[i : i + 8] for i in range(0, 64, 8)]
    assert rounds[0] == rounds[1] == rounds[2] == rounds[3]
    assert rounds[4] == rounds[5] == rounds[6] == rounds[7]
    assert rounds[3] != rounds[4]


def test_a_rung_goes_on_until_it_has_enough_programs() -> None:
    cfg = GaspConfig(goalposts_per_step=2, max_attempts=8, min_programs=7, practice_per_step=1)
    one = game(half_solved, replace(cfg, novelty=replace(cfg.novelty, threshold=1.0)))

    lemmas = one.iterate().phases[0].proposals

    assert len(lemmas) == 8


def test_practice_takes_new_tasks_first_and_fills_up_from_the_buffer() -> None:
    play = game(half_solved, replace(SMALL, practice_per_step=4)).play
    old = [made(f"old{i}") for i in range(5)]
    new = [made(f"new{i}") for i in range(2)]
    play.buffer.add([*old, *new])

    sources = [task.source for task in play.practice_tasks(new, 1)]

    assert sources[:2] == ["new0", "new1"]
    assert len(set(sources)) == 4
    assert all(source.startswith("old") for source in sources[2:])


def test_tasks_are_drawn_uniformly_from_the_three_kinds_and_show_what_they_may() -> None:
    play = game(half_solved, replace(SMALL, practice_per_step=600, buffer_capacity=600)).play

    tasks = play.practice_tasks([made(f"p{i}") for i in range(600)], 1)

    for kind in (Kind.INDUCTION, Kind.DEDUCTION, Kind.ABDUCTION):
        assert 150 < sum(task.kind is kind for task in tasks) < 250
    for task in tasks:
        if task.kind is Kind.INDUCTION:
            assert (len(task.shown), len(task.hidden), task.program) == (2, 3, "")
        else:
            assert task.shown == task.hidden
            assert (len(task.shown), task.message) == (1, "")


def test_answers_are_judged_by_execution_or_as_literals_and_rewarded() -> None:
    one = game(lambda prompt, *_: "1" if "induction" in prompt else "5", SMALL)
    squares = replace(made("p"), program=SQUARES)

    practice = one.play.practise([induction(squares, 2), deduction(squares, 2), abduction(squares, 2)], 1)

    # induction: squares. deduction: f(3) is 5. abduction: f(5) is 30, not 5.
    assert [(a.kind, a.judgement, a.reward) for a in practice.answers] == [
        (Kind.INDUCTION, Judgement.CORRECT, 1.0),
        (Kind.DEDUCTION, Judgement.CORRECT, 1.0),
        (Kind.ABDUCTION, Judgement.WRONG, -0.5),
    ]


def test_an_answer_that_cannot_be_read_earns_minus_one() -> None:
    one = game(lambda *_: "no program here", SMALL)

    practice = one.play.practise([induction(made("p"), 2)], 1)

    assert [(a.judgement, a.reward) for a in practice.answers] == [(Judgement.MALFORMED, -1.0)]


def test_the_same_seed_plays_the_same_game() -> None:
    assert [game(half_solved, SMALL).iterate(s) for s in (1, 2)] == [
        game(half_solved, SMALL).iterate(s) for s in (1, 2)
    ]


@dataclass
class Late:
    """A sandbox that answers in a random order, at random times."""

    inner: ScriptedSandbox
    rng: random.Random

    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Execution]]:
        waiting: list[tuple[int, Execution]] = []
        for done in self.inner.execute(jobs):
            waiting.append(done)
            while waiting and self.rng.random() < 0.4:
                time.sleep(self.rng.random() / 2000)
                yield waiting.pop(self.rng.randrange(len(waiting)))
        while waiting:
            yield waiting.pop(self.rng.randrange(len(waiting)))

    def close(self) -> None:
        pass


@pytest.mark.parametrize("seed", range(5))
def test_when_the_sandbox_answers_changes_nothing_of_what_is_computed(seed: int) -> None:
    cfg = replace(SMALL, goalposts_per_step=4, tries_per_round=3, min_programs=12)
    prompt_game, late_game = game(half_solved, cfg), game(half_solved, cfg)
    late = Late(late_game.sandbox, random.Random(seed))
    late_game.play.teacher._sandbox = late
    late_game.play.student._sandbox = late

    for step in (1, 2):
        assert late_game.iterate(step) == prompt_game.iterate(step)
    assert late_game.engine.learned == prompt_game.engine.learned


def made(name: str) -> Proposal:
    pairs = tuple(Pair(text, str(PROGRAMS[SQUARES](int(text)))) for text in INPUTS)
    return Proposal(name, "lemma", "", message=name, program=SQUARES, pairs=pairs)


SUM_OF_SQUARES = Problem(
    "held/out", "How many cannon balls?", (), tuple(TestCase(x, y) for x, y in (("3", "5"), ("4", "14"), ("6", "55"), ("2", "1")))
)  # fmt: skip


@pytest.mark.parametrize(("action", "rejection", "reward", "masked"), [
    ("block", Rejection.CONTAMINATED, -0.5, False),
    ("quarantine", Rejection.QUARANTINED, 0.0, True),
    ("report", None, 1.0, False),
])  # fmt: skip
def test_a_lemma_that_solves_a_held_out_problem_is_recorded_and_blocked_or_set_aside_or_used(
    action: Literal["block", "quarantine", "report"], rejection: Rejection | None, reward: float, masked: bool
) -> None:
    one = game(
        half_solved, replace(SMALL, goalposts_per_step=1, min_programs=1), held_out=(SUM_OF_SQUARES,),
        firewall=FirewallConfig(action=action),
    )  # fmt: skip

    climb = one.play.propose(LEMMA, one.play.draw_goalposts(1, 1), 1)

    lemma = climb.proposals[0]
    assert [(like.kind, like.problem) for like in lemma.likenesses] == [(LikenessKind.BEHAVIOUR, "held/out")]
    assert (lemma.rejection, lemma.reward) == (rejection, reward)
    assert climb.groups[0].rollouts[0].masked is masked
    used = rejection is None
    assert (bool(climb.frontier), len(one.play.buffer), len(one.play.archive)) == (used, used, used)
