"""Unguided self-play (Absolute Zero): what is proposed, kept, tried and earned."""

import random
from collections.abc import Callable

import pytest

from gasp_rl.config import AzrConfig, FirewallConfig, LearnConfig, NoveltyConfig, StudentRewards
from gasp_rl.learn.learner import Learner
from gasp_rl.loop import azr_iteration
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.policy.policy import EnginePolicy
from gasp_rl.policy.scripted import ScriptedEngine
from gasp_rl.progress import Silent
from gasp_rl.rollout import Iteration, Kind, Rejection
from gasp_rl.sandbox.base import Execution, Job, Result, Status
from gasp_rl.sandbox.scripted import ScriptedSandbox
from gasp_rl.selfplay.firewall import Firewall
from gasp_rl.selfplay.free import FreePlay
from gasp_rl.selfplay.novelty import HashedEmbedder, NoveltyArchive
from gasp_rl.selfplay.prompts.micro import MICRO
from gasp_rl.selfplay.student import Student
from gasp_rl.selfplay.teacher import Teacher

SORT = "def f(x):\n    # (1) sort ascending\n    x = sorted(x)\n    return x"
CFG = AzrConfig(proposals_per_kind=4, answers_per_kind=4, references=2, seeds=4, tries=8, pairs=4)


def sorts(job: Job) -> Execution:
    results = [Result(Status.OK, str(sorted(int(n) for n in text.strip("[]").split(", ")))) for text in job.inputs]
    return Execution(Status.OK, tuple(results))


def propose(prompt: str) -> str:
    if "propose solve" in prompt:
        return "on the list: (1) sort ascending\n# inputs\n1: [2, 1]\n2: [3, 1]\n3: [4, 2]\n4: [5, 0]"
    return f"{SORT}\n# input\n[3, 1, 2]"


def half_right(prompt: str, sample: int, seed: int) -> str:
    """Proposes sorting; answers rightly every second time."""
    if "propose" in prompt:
        return propose(prompt)
    right = SORT if prompt.startswith("# solve") else "[1, 2, 3]"
    return right if (sample + seed) % 2 else "[0]"


def game(reply: Callable[[str, int, int], str] = half_right) -> tuple[FreePlay, ScriptedEngine]:
    engine, sandbox, params, observer = ScriptedEngine(reply), ScriptedSandbox(sorts), SamplingParams(400), Silent()
    policy = EnginePolicy(engine)
    student = Student(policy, sandbox, MICRO, params, observer)
    archive = NoveltyArchive(HashedEmbedder(), NoveltyConfig())
    firewall = Firewall((), sandbox, HashedEmbedder(), FirewallConfig())
    teacher = Teacher(policy, sandbox, MICRO, params, archive, firewall, student, StudentRewards(), observer)
    return FreePlay(policy, teacher, student, MICRO, CFG, StudentRewards(), 0, observer), engine


def iterate(play: FreePlay, engine: ScriptedEngine, step: int = 1) -> Iteration:
    return azr_iteration(play, Learner(engine, LearnConfig(normalise="group"), 1.0), step)


def test_all_six_groups_make_one_joint_update() -> None:
    play, engine = game()

    iterate(play, engine)

    assert len(engine.learned) == 1


def test_a_valid_proposal_earns_one_minus_its_pass_rate_and_is_kept_whatever_it_is() -> None:
    play, engine = game()

    iteration = iterate(play, engine)

    proposals = [p for phase in iteration.phases if phase.name in set(Kind) for p in phase.proposals]
    assert len(proposals) == 12
    assert {(p.passes, p.tries, p.reward) for p in proposals} == {(4, 8, 0.5)}
    assert all(p.accepted for p in proposals)


@pytest.mark.parametrize("answer", [SORT, "nothing"])
def test_what_is_always_or_never_solved_earns_the_zero_learnability_reward(answer: str) -> None:
    def reply(prompt: str, *_: int) -> str:
        if "propose" in prompt:
            return propose(prompt)
        return answer if prompt.startswith("# solve") or answer == "nothing" else "[1, 2, 3]"

    play, _ = game(reply)

    assert {p.reward for p in play.propose(Kind.INDUCTION, 1).proposals} == {-0.5}


def test_an_invalid_proposal_earns_minus_one_and_enters_no_buffer() -> None:
    play, _ = game(lambda *_: "nonsense")

    proposals = play.propose(Kind.DEDUCTION, 1).proposals

    assert {(p.rejection, p.reward) for p in proposals} == {(Rejection.MALFORMED, -1.0)}
    assert len(play.buffers[Kind.DEDUCTION]) == 0


def test_seeds_fill_each_buffer_before_the_first_update_and_train_nothing() -> None:
    play, engine = game()

    found = list(play.collect_seeds(1))

    assert [len(play.buffers[kind]) for kind in (Kind.ABDUCTION, Kind.DEDUCTION, Kind.INDUCTION)] == [4, 4, 4]
    assert {p.tries for free in found for p in free.proposals} == {0}
    assert engine.learned == []
    assert list(play.collect_seeds(2)) == []


def test_seeding_gives_up_when_nothing_valid_is_written() -> None:
    play, _ = game(lambda *_: "nonsense")

    assert len(list(play.collect_seeds(1))) == 3 * (1 + 2 * CFG.seeds // CFG.proposals_per_kind)


def test_an_induction_proposal_is_about_an_earlier_program() -> None:
    play, _ = game()
    list(play.collect_seeds(1))

    proposal = play.propose(Kind.INDUCTION, 1).proposals[0]

    known = {p.id for kind in (Kind.ABDUCTION, Kind.DEDUCTION) for p in play.buffers[kind].draw(9, random.Random(0))}
    assert proposal.parent in known
    assert proposal.program == SORT
    assert [pair.output for pair in proposal.pairs] == ["[1, 2]", "[1, 3]", "[2, 4]", "[0, 5]"]


def test_half_of_an_induction_tasks_pairs_are_public() -> None:
    play, _ = game()
    fresh = play.propose(Kind.INDUCTION, 1).accepted

    task = play.practice_tasks(Kind.INDUCTION, fresh, 1)[0]

    assert (len(task.shown), len(task.hidden)) == (2, 2)
