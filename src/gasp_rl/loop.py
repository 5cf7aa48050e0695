"""The training loop. Read `gasp_iteration` top to bottom: that is the algorithm (arXiv:2603.15957).

The text here sees no thread, device, file or clock: concurrency lives inside `policy.sample` and `sandbox.execute`.
"""

from collections.abc import Sequence

from gasp_rl.config import GaspConfig, RlvrConfig
from gasp_rl.learn.advantages import grpo
from gasp_rl.learn.learner import Learner
from gasp_rl.problem import Problem
from gasp_rl.rollout import Iteration, Phase, Proposal
from gasp_rl.selfplay.free import FREE_KINDS, FreePlay
from gasp_rl.selfplay.play import Play, solve_problems
from gasp_rl.selfplay.student import Student


def gasp_iteration(play: Play, learner: Learner, cfg: GaspConfig, step: int) -> Iteration:
    """Climb the ladder once from a batch of goalposts, then let the student practise on what was accepted."""
    frontier = play.draw_goalposts(cfg.goalposts_per_step, step)
    phases: list[Phase] = []
    accepted: list[Proposal] = []
    for rung in cfg.ladder:  # the paper: lemma, then lift
        climb = play.propose(rung, frontier, step)  # rejection sampling: parse, validate, novelty, N tries, band
        phases.append(Phase(rung.name, climb.proposals, (), learner.update(rung.name, climb.groups)))
        frontier, accepted = climb.frontier, [*accepted, *climb.accepted]

    practice = play.practise(play.practice_tasks(accepted, step), step)  # new tasks first, then from the buffer
    phases.append(Phase("practice", (), practice.answers, learner.update("practice", practice.groups)))
    return Iteration(step, tuple(phases), play.deck.drawn)


def azr_iteration(play: FreePlay, learner: Learner, step: int) -> Iteration:
    """Propose freely and answer, three kinds each; all six groups make one joint update (Absolute Zero)."""
    phases: list[Phase] = []
    groups = []
    for kind in FREE_KINDS:
        free = play.propose(kind, step)
        practice = play.practise(play.practice_tasks(kind, free.accepted, step), step)
        phases.append(Phase(str(kind), free.proposals, practice.answers))
        groups += [*free.groups, *practice.groups]
    phases.append(Phase("joint update", update=learner.update("joint update", groups)))
    return Iteration(step, tuple(phases))


def rlvr_iteration(
    student: Student, learner: Learner, problems: Sequence[Problem], cfg: RlvrConfig, seed: int, step: int
) -> Iteration:
    """Answer real problems in groups; reward is passing every test (RLVR by GRPO)."""
    practice = solve_problems(student, problems, cfg, seed, step)
    phase = Phase("real problems", (), practice.answers, learner.update("real problems", practice.groups, credit=grpo))
    return Iteration(step, (phase,))
