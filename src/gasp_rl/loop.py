"""The training loop. Read `gasp_iteration` top to bottom: that is the algorithm (arXiv:2603.15957).

The text here sees no thread, device, file or clock: concurrency lives inside `policy.sample` and `sandbox.execute`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gasp_rl.config import GaspConfig, RlvrConfig, RunConfig
from gasp_rl.learn.advantages import grpo
from gasp_rl.learn.learner import Learner
from gasp_rl.problem import Problem
from gasp_rl.progress import Observer
from gasp_rl.rollout import Evaluation, Iteration, Phase, Proposal, RolloutGroup
from gasp_rl.runs.course import Pilot
from gasp_rl.runs.journal import Decided, EvaluationRecord, Finished, IterationRecord, JournalWriter, read_journal
from gasp_rl.runs.metrics import CHECKPOINT, EVALUATE, MATCHED_DRAWS
from gasp_rl.selfplay.free import FREE_KINDS, FreePlay
from gasp_rl.selfplay.play import Play, solve_problems
from gasp_rl.selfplay.student import Student
from gasp_rl.selfplay.teacher import Foothold


def gasp_iteration(play: Play, learner: Learner, cfg: GaspConfig, step: int) -> Iteration:
    """Climb the ladder once from a batch of goalposts, then let the student practise on what was accepted."""
    frontier: Sequence[Foothold] = play.draw_goalposts(cfg.goalposts_per_step, step)
    phases: list[Phase] = []
    accepted: list[Proposal] = []
    tried: list[RolloutGroup] = []
    for rung in cfg.ladder:  # the paper: lemma, then lift
        climb = play.propose(rung, frontier, step)  # rejection sampling: parse, validate, novelty, N tries, band
        update = learner.update(rung.name, climb.groups)
        tokens, dissimilarity = climb.sampled_tokens, climb.dissimilarity
        phases.append(Phase(rung.name, climb.proposals, (), update, tokens, dissimilarity, climb.tries))
        frontier, accepted, tried = climb.frontier, [*accepted, *climb.accepted], [*tried, *climb.tried]

    practice = play.practise(play.practice_tasks(accepted, step), step)  # new tasks first, then from the buffer
    update = learner.update("practice", [*practice.groups, *tried])
    phases.append(Phase("practice", (), practice.answers, update, practice.sampled_tokens))
    return Iteration(step, tuple(phases), play.deck.drawn)


def azr_iteration(play: FreePlay, learner: Learner, step: int) -> Iteration:
    """Propose freely and answer, three kinds each; all six groups make one joint update (Absolute Zero)."""
    phases = [Phase("seeds", free.proposals, sampled_tokens=free.sampled_tokens) for free in play.collect_seeds(step)]
    groups = []
    for kind in FREE_KINDS:
        free = play.propose(kind, step)
        practice = play.practise(play.practice_tasks(kind, free.accepted, step), step)
        tokens = free.sampled_tokens + practice.sampled_tokens
        phases.append(Phase(str(kind), free.proposals, practice.answers, None, tokens, tries=free.tries))
        groups += [*free.groups, *practice.groups]
    phases.append(Phase("joint update", update=learner.update("joint update", groups)))
    return Iteration(step, tuple(phases))


def rlvr_iteration(
    student: Student,
    learner: Learner,
    problems: Sequence[Problem],
    cfg: RlvrConfig,
    seed: int,
    step: int,
    observer: Observer,
) -> Iteration:
    """Answer real problems in groups; reward is passing every test (RLVR by GRPO)."""
    observer.phase("real problems")
    practice = solve_problems(student, problems, cfg, seed, step)
    update = learner.update("real problems", practice.groups, credit=grpo)
    return Iteration(step, (Phase("real problems", (), practice.answers, update, practice.sampled_tokens),))


@dataclass(frozen=True, slots=True)
class Run:
    """A run made ready: what to do at each step, and where it is written down."""

    config: RunConfig
    prepare: Callable[[Sequence[Iteration]], Callable[[int], IterationRecord]]
    """The iteration under the settings as they are decided by now, for a run that these are already done of."""
    catch_up: Callable[[], None]
    """Wait for what is being learned, and sample with it from here on."""
    settled: Callable[[IterationRecord], IterationRecord]
    """An iteration, complete with what was learned from it, which is waited for."""
    evaluate: Callable[[int], Iterable[Evaluation]]
    """Evaluations of the current weights, after so many iterations."""
    conclude: Callable[[Sequence[Evaluation]], Iterable[Evaluation]]
    """What is measured once at the end, given all evaluations of the run: the base model's matched draws."""
    checkpoint: Callable[[int, Sequence[Evaluation]], None]
    """Save what the journal does not hold, after so many iterations, given the evaluations made there."""
    pilot: Pilot
    journal: JournalWriter
    observer: Observer


def train(run: Run) -> None:
    """Evaluate, iterate, evaluate every so often, conclude. Each record is on disk before the next step begins; with
    `learn.overlap`, before the one after that.

    A run whose journal has iterations already goes on after them.
    """
    steps, done = run.config.steps, len(run.journal.journal.iterations)
    evaluations = list(run.journal.journal.evaluations)
    for evaluation in evaluations:
        run.observer.evaluation(evaluation)

    def record(found: Iterable[Evaluation]) -> None:
        for evaluation in found:
            run.journal.append(EvaluationRecord(evaluation))
            run.pilot.follow(EvaluationRecord(evaluation))
            run.observer.evaluation(evaluation)
            evaluations.append(evaluation)

    def record_iteration(made: IterationRecord) -> Sequence[Decided]:
        run.journal.append(made)
        run.observer.iterated(made.iteration)
        decided = run.pilot.decide(made.iteration)
        for one in decided:
            run.journal.append(one)
        return decided

    if run.config.evaluate.at_start and not done:
        run.observer.phase(EVALUATE)
        record(run.evaluate(0))
    iterate, step = run.prepare(run.journal.journal.iterations), done
    learning: deque[IterationRecord] = deque()  # made; their last update may be under way
    while step < steps and not run.pilot.stopped:
        step += 1
        run.observer.iteration(step, run.pilot.steps(step - 1))
        learning.append(iterate(step))
        goes_on = run.pilot.goes_on(step)
        if not goes_on:
            run.catch_up()
        made = [run.settled(learning.popleft()) for _ in range(len(learning) - goes_on)]
        run.observer.phase("record")
        decided = [one for each in made for one in record_iteration(each)]
        if goes_on:
            continue
        if decided and not run.pilot.stopped:
            iterate = run.prepare(read_journal(run.journal.path).iterations)
        last = step == steps or bool(run.pilot.stopped)
        if run.pilot.evaluation_due(step) or last:
            run.observer.phase(EVALUATE)
            record(run.evaluate(step))
        if run.pilot.checkpoint_due(step) or (last and run.config.checkpoint.every):
            run.observer.phase(CHECKPOINT)
            run.checkpoint(step, [evaluation for evaluation in evaluations if evaluation.step == step])
    run.observer.phase(MATCHED_DRAWS)
    record(run.conclude(evaluations))
    run.journal.append(Finished(run.pilot.stopped))
