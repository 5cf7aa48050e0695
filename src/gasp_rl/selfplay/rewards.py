"""What teacher and student earn: pure functions of counts (arXiv:2603.15957 Eq. 4-6; AZR: arXiv:2505.03335 and its code)."""

from collections.abc import Callable
from typing import TypeAlias

from gasp_rl.config import RungConfig, StudentRewards, TeacherRewards
from gasp_rl.rollout import Judgement, Rejection, Task
from gasp_rl.streams import stream

AnswerReward: TypeAlias = Callable[[Task, int, Judgement], float]
"""What an answer earns: its task, its place among the answers to it, and what it was worth."""


def learnability(p: float, peak: float, sharpness: float) -> float:
    """R(p; a, b) = [ (p/a) ((1-p)/(1-a))^((1-a)/a) ]^b, which is 1 at p = a and falls to 0 at 0 and 1; the paper's Eq. 5 is
    (a, b) = (0.5, 5), its Eq. 6 (0.1, 1).
    """
    if p <= 0.0 or p >= 1.0:
        return 0.0
    ratio = (p / peak) * ((1.0 - p) / (1.0 - peak)) ** ((1.0 - peak) / peak)
    return float(ratio**sharpness)


def rung_reward(rung: RungConfig, passes: int, tries: int, rewards: TeacherRewards) -> float:
    """The teacher's reward for a valid, new proposal that the student solved `passes` times of `tries`."""
    if not rung.band.holds(passes, tries):
        return rewards.outside_band
    return learnability(passes / tries, rung.peak, rung.sharpness)


def rejection_reward(rejection: Rejection, rewards: TeacherRewards) -> float:
    """The teacher's reward for a proposal that never reached the student. What nobody learns from earns 0."""
    return {
        Rejection.MALFORMED: rewards.malformed,
        Rejection.UNSAFE: rewards.unsafe,
        Rejection.INVALID: rewards.invalid,
        Rejection.NONDETERMINISTIC: rewards.nondeterministic,
        Rejection.CONTAMINATED: rewards.contaminated,
        Rejection.QUARANTINED: 0.0,
        Rejection.DUPLICATE: rewards.duplicate,
        Rejection.TOO_HARD: rewards.outside_band,
        Rejection.TOO_EASY: rewards.outside_band,
        Rejection.SANDBOX_FAULT: 0.0,
    }[rejection]


def free_reward(passes: int, tries: int, zero_learnability: float) -> float:
    """AZR's proposer reward: 1 - p, but `zero_learnability` where p is 0 or 1 (paper: 0, its code: -0.5)."""
    if passes in {0, tries}:
        return zero_learnability
    return 1.0 - passes / tries


def by_judgement(rewards: StudentRewards) -> AnswerReward:
    """What it was worth decides. A fault of ours earns 0 and is masked."""
    earned = {
        Judgement.CORRECT: rewards.correct,
        Judgement.WRONG: rewards.wrong,
        Judgement.MALFORMED: rewards.malformed,
        Judgement.SANDBOX_FAULT: 0.0,
    }
    return lambda _task, _place, judgement: earned[judgement]


def by_coin(heads: float, tails: float, seed: int, step: int) -> AnswerReward:
    """A fair coin decides, one for each answer of the step. A fault of ours earns 0 and is masked."""

    def toss(task: Task, place: int, judgement: Judgement) -> float:
        if judgement is Judgement.SANDBOX_FAULT:
            return 0.0
        return stream(seed, step, "coin", task.source, place).choice((heads, tails))

    return toss
