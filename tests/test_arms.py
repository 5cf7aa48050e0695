"""What the name of a recipe says, it does: each is played with a script for a teacher, a student and a sandbox."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from gasp_rl.build import PROMPT_SETS, ProblemSets, iteration_of
from gasp_rl.config import RunConfig
from gasp_rl.learn.learner import Learner
from gasp_rl.policy.policy import EnginePolicy
from gasp_rl.policy.scripted import ScriptedEngine
from gasp_rl.problem import Problem, TestCase
from gasp_rl.progress import Silent
from gasp_rl.recipes import RECIPES
from gasp_rl.rollout import Answer, Axis, Iteration, Judgement, Proposal, Rejection
from gasp_rl.runs.journal import IterationRecord, written_and_read
from gasp_rl.sandbox.base import Execution, Job, Result, Status
from gasp_rl.sandbox.scripted import ScriptedSandbox
from gasp_rl.selfplay.prompts import micro
from gasp_rl.selfplay.prompts.base import Draft
from gasp_rl.streams import stream

PROGRAMS: dict[str, Callable[[int], int]] = {
    "def f(x):\n    total = 0\n    for i in range(x):\n        total += i * i\n    return total": lambda x: sum(
        i * i for i in range(x)
    ),
    "def f(x):\n    while x % 7:\n        x = x * 3 + 1\n    return x": lambda x: 7 * (x % 3),
    "def f(x):\n    return x + x": lambda x: x + x,
    "def f(x):\n    return -1": lambda _: -1,
}
SQUARES, LOOP, DOUBLE, WRONG = PROGRAMS
INPUTS = ("1", "2", "3", "4", "5")

GOALPOSTS = tuple(Problem(f"goal{i}", f"How many cannon balls lie in pile {i}?", (), ()) for i in range(4))
REAL = tuple(
    Problem(f"real{i}", f"Double the number of pile {i}.", (TestCase("1", "2"),), (TestCase("3", "6"),))
    for i in range(80)
)


def by_heart(job: Job) -> Execution:
    function = next(function for program, function in PROGRAMS.items() if program in job.source)
    return Execution(Status.OK, tuple(Result(Status.OK, str(function(int(text)))) for text in job.inputs))


def down(job: Job) -> Execution:
    return Execution(Status.INFRA, (), "no worker")


@dataclass
class Script:
    """A teacher that writes one program for every lemma and one for every lift, and a student that is right so often."""

    right_of_ten: int = 5
    taught: list[str] = field(default_factory=list)
    """What the teacher was asked."""

    def __call__(self, prompt: str, sample: int, seed: int) -> str:
        if asked := re.findall(r"write (?:one )?(easier|harder)", prompt.lower()):
            self.taught.append(prompt)
            return written(prompt, SQUARES if asked[-1] == "easier" else LOOP)
        if "# propose" in prompt:
            return freely_written(prompt)
        program = next((one for one in (LOOP, SQUARES) if message(one) in prompt), DOUBLE)
        return program if sample % 10 < self.right_of_ten else WRONG


def message(program: str) -> str:
    return {SQUARES: "sum the squares", LOOP: "walk to a multiple of seven"}[program]


def written(prompt: str, program: str) -> str:
    draft = Draft(message(program), program, INPUTS)
    if prompt.startswith("<system>"):  # which begins the reply
        calls = "".join(f"# f({text})\n" for text in draft.inputs)
        return f" numbers, {draft.message}.\n{calls}{draft.program}\n```"
    return micro.reply(draft)


def freely_written(prompt: str) -> str:
    if "# propose solve" in prompt:
        return f"{message(SQUARES)}\n{micro.INPUTS}{micro.numbered(INPUTS)}"
    return f"{SQUARES}\n{micro.INPUT}3"


@dataclass
class Played:
    iterations: list[Iteration]
    engine: ScriptedEngine
    script: Script

    @property
    def proposals(self) -> list[Proposal]:
        return [p for iteration in self.iterations for phase in iteration.phases for p in phase.proposals]

    @property
    def answers(self) -> list[Answer]:
        return [answer for iteration in self.iterations for phase in iteration.phases for answer in phase.answers]


def play(
    config: RunConfig,
    script: Script | None = None,
    execute: Callable[[Job], Execution] = by_heart,
    steps: tuple[int, ...] = (1,),
) -> Played:
    script = script or Script()
    engine, observer = ScriptedEngine(script), Silent()
    learner = Learner(engine, config.learn, config.sampling.temperature, observer)
    iterate = iteration_of(
        config, ProblemSets(GOALPOSTS, REAL if config.rlvr else (), ()), EnginePolicy(engine, observer), learner,
        ScriptedSandbox(execute), PROMPT_SETS[config.model.prompts], observer, past=(),
    )  # fmt: skip
    return Played([learner.settled(iterate(step)) for step in steps], engine, script)


def phases(played: Played) -> list[str]:
    return [phase.name for phase in played.iterations[0].phases]


def small(name: str) -> RunConfig:
    """The recipe with few goalposts and problems."""
    config = RECIPES[name]()
    return replace(
        config,
        gasp=config.gasp and replace(config.gasp, goalposts_per_step=8, min_programs=8),
        rlvr=config.rlvr and replace(config.rlvr, problems_per_step=24),
    )


@pytest.mark.parametrize("size", ["", "micro-"])
@pytest.mark.parametrize(("arm", "seen"), [("gasp", False), ("lift-sees-goalpost", True)])
def test_a_lift_is_shown_the_goalpost_where_the_recipe_says_so_and_the_lemma_always(
    size: str, arm: str, seen: bool
) -> None:
    played = play(small(f"{size}{arm}"))

    lifts = [prompt for prompt in played.script.taught if re.search("write (one )?harder", prompt.lower())]
    assert lifts
    assert {"cannon balls" in prompt for prompt in lifts} == {seen}
    assert all(message(SQUARES) in prompt and SQUARES in prompt for prompt in lifts)


@pytest.mark.parametrize("size", ["", "micro-"])
@pytest.mark.parametrize("arm", ["lemma-only", "one-step-medium", "one-step-hard"])
def test_a_ladder_of_one_rung_has_no_lift_and_its_lemmas_are_practised(size: str, arm: str) -> None:
    played = play(small(f"{size}{arm}"), Script(right_of_ten=4))

    assert phases(played) == ["lemma", "practice"]
    assert all("harder" not in prompt.lower() for prompt in played.script.taught)
    assert played.answers


@pytest.mark.parametrize(("arm", "accepted"), [
    ("gasp", {3, 4, 5, 6, 7}), ("lemma-only", {3, 4, 5, 6, 7}),
    ("one-step-medium", {1, 2, 3, 4, 5}), ("one-step-hard", {1, 2, 3, 4, 5}),
    ("no-rejection-sampling", set(range(11))),
])  # fmt: skip
def test_a_recipe_accepts_lemmas_of_its_band(arm: str, accepted: set[int]) -> None:
    config = small(f"micro-{arm}")
    lemmas = {times: play(config, Script(right_of_ten=times)).proposals[0] for times in range(11)}

    assert {times for times, lemma in lemmas.items() if lemma.accepted} == accepted
    assert [lemma.passes for lemma in lemmas.values()] == list(range(11))


def test_without_rejection_sampling_copies_are_accepted_in_one_round_and_each_is_tried_ten_times() -> None:
    config = small("no-rejection-sampling")
    played = play(config, Script(right_of_ten=10))

    assert config.gasp
    lemmas = [p for p in played.proposals if p.rung == "lemma"]
    lifts = [p for p in played.proposals if p.rung == "lift"]
    assert len(lemmas) == len(lifts) == config.gasp.goalposts_per_step  # one round, although max_attempts is 8
    assert len({p.program for p in lemmas}) == 1  # copies, all of them
    assert {(p.rejection, p.tries, p.passes, p.reward) for p in played.proposals} == {(None, 10, 10, -0.5)}


def test_with_rejection_sampling_the_same_copies_are_refused_untried_and_asked_for_again() -> None:
    played = play(small("gasp"))

    lemmas = [p for p in played.proposals if p.rung == "lemma"]
    assert sum(p.accepted for p in lemmas) == 1
    assert {(p.rejection, p.tries) for p in lemmas[1:]} == {(Rejection.DUPLICATE, 0)}
    assert len(lemmas) > 8


@pytest.mark.parametrize("size", ["", "micro-"])
def test_without_the_io_axis_no_lemma_and_no_lift_varies_the_data(size: str) -> None:
    with_it, without = play(small(f"{size}gasp")), play(small(f"{size}no-io-axis"))

    assert {p.axis for p in with_it.proposals} == {Axis.IO, Axis.F}
    assert {p.axis for p in without.proposals} == {Axis.F}
    for played, named in ((with_it, True), (without, False)):
        assert any(re.search("axis io|the DATA", prompt) for prompt in played.script.taught) is named


@pytest.mark.parametrize("size", ["", "micro-"])
def test_gasp_with_real_data_makes_both_updates_in_an_iteration_and_journals_both(size: str) -> None:
    played = play(small(f"{size}gasp-rlvr"))

    [iteration] = played.iterations
    assert phases(played) == ["lemma", "lift", "practice", "real problems"]
    learned = [phase.name for phase in iteration.phases if phase.update and not phase.update.skipped]
    assert {"lemma", "real problems"} <= set(learned)
    assert len(played.engine.learned) == len(learned)
    assert len(iteration.phases[3].answers) == 24 * 8
    assert written_and_read(IterationRecord(iteration)).iteration == iteration


@pytest.mark.parametrize(("arm", "reward"), [("azr", -0.5), ("azr-paper-reward", 0.0)])
def test_the_two_rewards_of_absolute_zero_differ_where_all_or_none_succeed(arm: str, reward: float) -> None:
    always = play(small(f"micro-{arm}"), Script(right_of_ten=10))
    sometimes = play(small(f"micro-{arm}"), Script(right_of_ten=6))

    def earned(played: Played) -> set[float]:
        return {p.reward for p in played.proposals if p.rung == "propose induction" and p.tries}

    assert earned(always) == {reward}
    assert earned(sometimes) == {1 - 6 / 8}


RANDOM = small("random-reward")


def test_a_random_reward_is_a_fair_coin_whatever_the_answer_and_judgements_stay_true() -> None:
    answers = play(RANDOM, Script(right_of_ten=4), steps=(1, 2)).answers

    assert len(answers) == 2 * 24 * 8
    assert sum(answer.judgement is Judgement.CORRECT for answer in answers) == len(answers) / 2
    for judgement in (Judgement.CORRECT, Judgement.WRONG):
        rewards = [answer.reward for answer in answers if answer.judgement is judgement]
        assert set(rewards) == {0.0, 1.0}
        assert abs(sum(rewards) / len(rewards) - 0.5) < 0.15  # four standard deviations


def test_a_student_learns_from_random_rewards() -> None:
    """Groups of 8 tosses are all alike once in 128: nearly every answer has an advantage, however alike the answers."""
    [iteration] = play(RANDOM, Script(right_of_ten=10)).iterations

    update = iteration.phases[0].update
    assert update
    assert not update.skipped
    advantages = [advantage for group in update.advantages for advantage in group]
    assert update.rollouts == sum(advantage != 0.0 for advantage in advantages) > 0.9 * len(advantages)


def test_the_coin_is_tossed_by_seed_step_problem_and_sample_and_by_nothing_else() -> None:
    first = play(RANDOM, steps=(1, 2))
    again = play(RANDOM, Script(right_of_ten=0), steps=(2,))

    def tosses(iteration: Iteration) -> list[float]:
        return [answer.reward for answer in iteration.phases[0].answers]

    assert tosses(again.iterations[0]) == tosses(first.iterations[1])
    assert tosses(first.iterations[0]) != tosses(first.iterations[1])
    assert tosses(play(replace(RANDOM, seed=1)).iterations[0]) != tosses(first.iterations[0])
    one = first.iterations[0].phases[0].answers[8]
    assert one.reward == stream(0, 1, "coin", one.source, 0).choice((1.0, 0.0))


def test_no_coin_is_tossed_for_a_fault_of_ours() -> None:
    played = play(RANDOM, execute=down)

    assert {(answer.judgement, answer.reward) for answer in played.answers} == {(Judgement.SANDBOX_FAULT, 0.0)}
    assert played.engine.learned == []
