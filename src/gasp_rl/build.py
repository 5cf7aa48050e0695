"""From settings to live objects: the one module that names concrete classes."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

import msgspec

from gasp_rl import __version__
from gasp_rl.cluster import Cluster
from gasp_rl.config import NoveltyConfig, PromptsName, ReadingConfig, RunConfig, SandboxConfig
from gasp_rl.curriculum.buffer import PracticeBuffer
from gasp_rl.curriculum.deck import GoalpostDeck
from gasp_rl.errors import ConfigError, ProblemFileError
from gasp_rl.evaluate import evaluate
from gasp_rl.learn.learner import Learner
from gasp_rl.loop import Run, azr_iteration, gasp_iteration, rlvr_iteration, train
from gasp_rl.policy.engine import Answering, Engine, SamplingParams
from gasp_rl.policy.local import LocalEngine
from gasp_rl.policy.policy import EnginePolicy, Policy, RecordingPolicy
from gasp_rl.problem import Problem
from gasp_rl.problems.jsonl import read_problems, skipped
from gasp_rl.progress import Observer, Several
from gasp_rl.rollout import Evaluation, Iteration
from gasp_rl.runs.append import Appender
from gasp_rl.runs.checkpoint import Rate, checkpoints, save_checkpoint
from gasp_rl.runs.course import Pilot, switched
from gasp_rl.runs.differences import differences
from gasp_rl.runs.directory import RunDirectory, create_run, open_run, read_config
from gasp_rl.runs.journal import (
    Digests,
    Finished,
    GoalpostText,
    IterationRecord,
    JournalWriter,
    Started,
    Stopped,
    read_journal,
)
from gasp_rl.runs.metrics import Measurement, Meter, Spent, read_measurements
from gasp_rl.runs.results import ModelFacts
from gasp_rl.runs.store import StoreKeeper
from gasp_rl.runs.trackers import Apart, JsonLines, Tracking, require_installed
from gasp_rl.sandbox.base import Sandbox
from gasp_rl.sandbox.cache import CachedSandbox
from gasp_rl.sandbox.hosts import Hosts
from gasp_rl.sandbox.metered import MeteredSandbox
from gasp_rl.sandbox.remote import open_sandbox
from gasp_rl.selfplay.firewall import Firewall
from gasp_rl.selfplay.free import FreePlay
from gasp_rl.selfplay.novelty import HashedEmbedder, NoveltyArchive
from gasp_rl.selfplay.play import Play
from gasp_rl.selfplay.prompts.base import PromptSet
from gasp_rl.selfplay.prompts.chat import CHAT
from gasp_rl.selfplay.prompts.micro import MICRO
from gasp_rl.selfplay.prompts.r1 import R1
from gasp_rl.selfplay.student import Student
from gasp_rl.selfplay.teacher import Teacher
from gasp_rl.stats import mean_pass_at_k
from gasp_rl.streams import seed_of
from gasp_rl.subject import Subject

Sandboxes: TypeAlias = Callable[[SandboxConfig], Sandbox]
"""Makes a fresh sandbox."""

Examine: TypeAlias = Callable[[Subject], None]
"""Looks at the model of a run whenever it is evaluated."""

PROMPT_SETS: dict[PromptsName, PromptSet] = {"micro": MICRO, "chat": CHAT, "r1": R1}


@dataclass(frozen=True, slots=True)
class ProblemSets:
    """The problems of a run. What its recipe never asks for is empty."""

    goalposts: tuple[Problem, ...]
    train: tuple[Problem, ...]
    validation: tuple[Problem, ...]
    held_out: tuple[Problem, ...] = ()
    """What generated tasks must keep clear of: all of validation, evaluated here or not, and `problems.held_out`."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run is made of."""

    config: RunConfig
    sets: ProblemSets
    engine: Engine
    untrained: Callable[[], AbstractContextManager[Answering]]
    """The model as it was before the run; while it is open, the engine is not asked."""
    policy: Policy
    learner: Learner
    sandbox: Sandbox
    sandboxes: Sandboxes
    prompts: PromptSet
    observer: Observer
    spent: Spent
    """By the wall clock, as `observer` measures it."""


def fresh_sandbox(config: SandboxConfig, observer: Observer, sandboxes: Sandboxes = open_sandbox) -> Sandbox:
    """New processes, and no memory of what was run before."""
    return CachedSandbox(MeteredSandbox(sandboxes(config), observer))


def run_recipe(
    config: RunConfig,
    out: Path,
    observer: Observer,
    sandboxes: Sandboxes = open_sandbox,
    examine: Examine | None = None,
) -> RunDirectory:
    """Run a recipe into a new directory. Whatever ends it early, the journal stays whole and says why."""
    directory = RunDirectory(out)
    with _watched(config, directory, observer) as watched, _parts(config, watched, sandboxes) as parts:
        create_run(out, config)
        with JournalWriter(directory.journal) as journal:
            journal.append(_started(parts))
            _train(parts, directory, journal, examine)
    return directory


def go_on(config: RunConfig, out: Path, observer: Observer, examine: Examine) -> None:
    """Run a recipe to its end, from wherever it is. A version of the model may be examined again after a crash."""
    directory = RunDirectory(out)
    if not directory.config.exists():
        run_recipe(config, out, observer, examine=examine)
    elif not (directory.model.exists() and isinstance(read_journal(directory.journal).ending, Finished)):
        resume_run(out, observer, examine=examine)


def resume_run(
    root: Path,
    observer: Observer,
    sandboxes: Sandboxes = open_sandbox,
    *,
    allow_changes: bool = False,
    examine: Examine | None = None,
) -> RunDirectory:
    """Go on with a run that ended early, from its newest whole checkpoint, or from the start where it has none.

    The journal is cut back to there, so on the same machine it and the weights end as if nothing had happened.
    Raises ConfigError, with nothing changed, if the run is finished, or if its settings, model, problems, prompts or package
    are not those that it began with; where changes are allowed, the journal says that it goes on with others from there.
    """
    directory = open_run(root)
    config = read_config(directory.config)
    with JournalWriter(directory.journal) as journal:
        ending = journal.journal.ending
        cut_short = isinstance(ending, Finished) and ending.reason
        if isinstance(ending, Finished) and directory.model.exists() and not (cut_short and allow_changes):
            more = f"; to go on, raise what ended it in {directory.config.name} and add --allow-changes"
            raise ConfigError(f"{root} is finished; see it with: gasp report {root}{more if cut_short else ''}")
        with _watched(config, directory, observer) as watched, _parts(config, watched, sandboxes) as parts:
            now = _started(parts)
            changes = _changes(journal.journal.started or now, now)
            if changes and not allow_changes:
                raise ConfigError(
                    f"{root} began with other things than it would go on with: {'; '.join(changes)}. "
                    "Put them back, or go on with what is there now: --allow-changes"
                )
            _rewind(parts, directory, journal)
            if journal.journal.started is None or _changes(journal.journal.started, now):
                journal.append(now)
            _train(parts, directory, journal, examine)
    return directory


@contextmanager
def _watched(config: RunConfig, directory: RunDirectory, observer: Observer) -> Iterator[tuple[Observer, Spent]]:
    """The observer, and beside it those who write down what things cost and pass the curves to trackers; and these costs."""
    require_installed(config.track)
    written = Appender(directory.metrics, observer.note)
    trackers = [Apart(name, directory.root / name, observer.note) for name in config.track]
    lines = JsonLines(directory.scalars, observer.note)
    before = read_measurements(directory.metrics)
    tracking = Tracking([lines, *trackers], config.evaluate.ks, before)
    spent = Spent()
    for measurement in before:
        spent.add(measurement)

    def tell(measurement: Measurement) -> None:
        written.write(measurement)
        spent.add(measurement)
        tracking.measured(measurement)

    with closing(tracking), closing(Meter(tell)) as meter:
        yield Several([observer, meter, tracking]), spent


@contextmanager
def _parts(config: RunConfig, watched: tuple[Observer, Spent], sandboxes: Sandboxes) -> Iterator[Parts]:
    """Everything a run needs, opened; closed afterwards."""
    observer, spent = watched
    sets = load_problems(config, observer)
    with ExitStack() as stack:
        opened = stack.enter_context(_opened(config, observer, sandboxes))
        engine = opened.engine
        sandbox = stack.enter_context(closing(fresh_sandbox(config.sandbox, observer, opened.sandboxes)))
        learner = Learner(engine, config.learn, config.sampling.temperature, observer)
        prompts = PROMPT_SETS[config.model.prompts]
        yield Parts(
            config, sets, engine, opened.untrained, EnginePolicy(engine, observer), learner, sandbox, opened.sandboxes,
            prompts, observer, spent,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Opened:
    """What an engine setting decides."""

    engine: Engine
    untrained: Callable[[], AbstractContextManager[Answering]]
    sandboxes: Sandboxes


@contextmanager
def _opened(config: RunConfig, observer: Observer, sandboxes: Sandboxes) -> Iterator[_Opened]:
    """What samples and learns, how to ask the model that it began with, and where programs run."""
    match config.engine:
        case "local":
            with closing(LocalEngine.open(config.model, config.learn.token_budget)) as local:
                yield _Opened(local, lambda: closing(LocalEngine.open(config.model, learns=False)), sandboxes)
        case "ray":
            from gasp_rl.policy.ray_engine import RayEngine  # noqa: PLC0415 - all of FSDP: who has one process need not wait

            with ExitStack() as stack:
                cluster = stack.enter_context(closing(Cluster(config.ray)))
                if config.ray.sandboxes:
                    sandboxes = stack.enter_context(closing(Hosts(cluster, config.ray, observer.note))).open
                budget = config.learn.token_budget
                engine = RayEngine(cluster, config.model, config.ray, budget, observer.note)
                stack.enter_context(closing(engine))
                yield _Opened(engine, engine.untrained, sandboxes)
        case "tinker":
            from gasp_rl.policy.tinker_engine import TinkerEngine  # noqa: PLC0415 - its SDK is an extra

            with closing(TinkerEngine(config.model, config.tinker)) as tinker:
                yield _Opened(tinker, tinker.untrained, sandboxes)


def _train(parts: Parts, directory: RunDirectory, journal: JournalWriter, examine: Examine | None) -> None:
    """Whatever is left to do, to the trained model."""

    def evaluations(step: int) -> Iterator[Evaluation]:
        if examine:
            path = parts.config.model.path
            facts = ModelFacts(path, str(directory.root), parts.engine.digest, parts.engine.dtype, step)
            examine(Subject(parts.policy, parts.prompts, facts))
        return _evaluations(parts, step)

    def checkpoint(step: int, evaluations: Sequence[Evaluation]) -> None:
        validation = [
            Rate(k, rate)
            for evaluation in evaluations if evaluation.split == "validation"
            for k in parts.config.checkpoint.best if (rate := mean_pass_at_k(evaluation.scores, k)) is not None
        ]  # fmt: skip
        save_checkpoint(
            directory.checkpoints, step, journal.records, journal.checksum, validation,
            parts.config.checkpoint.keep, parts.engine.save,
        )  # fmt: skip

    pilot = Pilot(parts.config, parts.observer, lambda: parts.spent)
    for record in (*journal.journal.records, Started(parts.config, __version__)):
        pilot.follow(record)
    recorder = RecordingPolicy(parts.policy)

    def prepare(past: Sequence[Iteration]) -> Callable[[int], IterationRecord]:
        iterate = iteration_of(
            switched(parts.config, pilot.decided), parts.sets, recorder, parts.learner, parts.sandbox, parts.prompts,
            parts.observer, past=past,
        )  # fmt: skip
        return lambda step: IterationRecord(iterate(step), recorder.take())

    run = Run(
        parts.config,
        prepare=prepare,
        catch_up=parts.learner.catch_up,
        settled=lambda record: IterationRecord(parts.learner.settled(record.iteration), record.draws),
        evaluate=evaluations,
        conclude=lambda evaluations: _matched_draws(parts, evaluations),
        checkpoint=checkpoint,
        pilot=pilot,
        journal=journal,
        observer=parts.observer,
    )
    with StoreKeeper(directory.store, journal, parts.observer.note) as keeper:
        keeper.update()
        journal.follow(keeper.update)
        try:
            train(run)
        except BaseException as error:
            journal.append(Stopped(f"{type(error).__name__} {error}".strip()))
            raise
    parts.engine.export_hf(directory.model)


def _rewind(parts: Parts, directory: RunDirectory, journal: JournalWriter) -> None:
    """Become what the newest whole checkpoint is of, journal included; without one, what the run began as."""
    for checkpoint in checkpoints(directory.checkpoints):
        seal = checkpoint.seal
        if damage := checkpoint.damage:
            parts.observer.note(f"checkpoint {checkpoint.path} is damaged ({damage}); looking for an earlier one")
        elif not journal.holds(seal.records, seal.checksum):
            parts.observer.note(f"checkpoint {checkpoint.path} does not fit the journal; looking for an earlier one")
        else:
            parts.engine.load(checkpoint.path / "engine")
            journal.rewind(seal.records)
            parts.observer.note(f"going on after iteration {seal.step}")
            return
    journal.rewind(min(journal.records, 1))
    parts.observer.note("no checkpoint to go on from; beginning again")


def _changes(before: Started, now: Started) -> list[str]:
    """What differs, in words: settings with both values, the rest by name. Who is told of the run, and where the cluster or the
    service is that runs it, may change.
    """
    ray = replace(before.config.ray, address=now.config.ray.address)
    tinker = replace(before.config.tinker, address=now.config.tinker.address)
    told = replace(before.config, track=now.config.track, ray=ray, tinker=tinker)
    settings = differences(msgspec.to_builtins(told), msgspec.to_builtins(now.config))
    versions = [] if before.package == now.package else [f"gasp-rl {before.package} -> {now.package}"]
    digests = differences(msgspec.to_builtins(before.digests), msgspec.to_builtins(now.digests))
    return [*map(str, settings), *versions, *(f"the {difference.place} changed" for difference in digests)]


def load_problems(config: RunConfig, observer: Observer) -> ProblemSets:
    """Read the problem sets that the recipe uses."""
    named = config.problems
    goalposts = problem_set(named.goalposts, "goalposts", named.reading, observer)
    if named.max_goalposts:
        goalposts = goalposts[: named.max_goalposts]
    train = problem_set(named.train, "train", named.reading, observer) if config.rlvr else ()
    validation = problem_set(named.validation, "validation", named.reading, observer)
    held_out = validation + problem_set(named.held_out, "test", named.reading, observer)
    if config.evaluate.validation_problems:
        validation = validation[: config.evaluate.validation_problems]
    return ProblemSets(goalposts, train, validation, held_out if config.gasp or config.azr else ())


def problem_set(name: str, split: str, reading: ReadingConfig, observer: Observer) -> tuple[Problem, ...]:
    """`micro` names the embedded split, "" none at all, anything else a file. Rows that were skipped are noted."""
    if not name:
        return ()
    path = Path(str(files("gasp_rl"))) / "data" / "microcode" / f"{split}.jsonl" if name == "micro" else Path(name)
    found = read_problems(path, reading)
    if found.malformed:
        observer.note(skipped(path, found.malformed))
    if not found.problems:
        reasons = Counter(row.reason for row in found.excluded).most_common(1)
        left_out = f"all {len(found.excluded)} are left out, most for: {reasons[0][0]}" if reasons else "it is empty"
        raise ProblemFileError(f"{path}: no problem that can be used: {left_out}")
    return found.problems


def iteration_of(
    config: RunConfig,
    sets: ProblemSets,
    policy: Policy,
    learner: Learner,
    sandbox: Sandbox,
    prompts: PromptSet,
    observer: Observer,
    *,
    past: Sequence[Iteration],
) -> Callable[[int], Iteration]:
    """The iteration that the settings describe, for a run that these are already done of."""
    archive = NoveltyArchive(HashedEmbedder(), config.gasp.novelty if config.gasp else NoveltyConfig())
    student, teacher = both_roles(config, sets, policy, sandbox, prompts, observer, archive)

    iterations: list[Callable[[int], Iteration]] = []
    if gasp := config.gasp:
        deck = GoalpostDeck(sets.goalposts, config.seed)
        buffer = PracticeBuffer(gasp.buffer_capacity)
        play = Play(policy, teacher, student, deck, archive, buffer, gasp, config.student, config.seed, observer)
        play.remember(past)
        iterations.append(lambda step: gasp_iteration(play, learner, gasp, step))
    if azr := config.azr:
        free = FreePlay(policy, teacher, student, prompts, azr, config.student, config.seed, observer)
        free.remember(past)
        iterations.append(lambda step: azr_iteration(free, learner, step))
    if rlvr := config.rlvr:
        iterations.append(lambda step: rlvr_iteration(student, learner, sets.train, rlvr, config.seed, step, observer))

    def iterate(step: int) -> Iteration:
        made = [one(step) for one in iterations]
        return Iteration(step, tuple(phase for it in made for phase in it.phases), made[0].goalposts_drawn)

    return iterate


def both_roles(
    config: RunConfig,
    sets: ProblemSets,
    policy: Policy,
    sandbox: Sandbox,
    prompts: PromptSet,
    observer: Observer,
    archive: NoveltyArchive,
) -> tuple[Student, Teacher]:
    """The policy as student and as teacher."""
    params = SamplingParams(config.sampling.max_tokens, config.sampling.temperature, prompts.stop)
    student = Student(policy, sandbox, prompts, params, observer, config.sandbox.grading)
    firewall = Firewall(sets.held_out, sandbox, HashedEmbedder(), config.firewall)
    teacher = Teacher(policy, sandbox, prompts, params, archive, firewall, student, config.student, observer)
    return student, teacher


def _evaluations(parts: Parts, step: int) -> Iterator[Evaluation]:
    for split, problems in (("validation", parts.sets.validation), ("goalposts", parts.sets.goalposts)):
        if problems:
            yield _evaluate(parts, parts.policy, problems, parts.config.evaluate.samples, split, step)


def _matched_draws(parts: Parts, evaluations: Sequence[Evaluation]) -> Iterator[Evaluation]:
    """Fresh draws of the untrained model on every goalpost, as many as all evaluations of the trained one together.

    Without them, more draws alone would look like progress (docs/algorithm.md, the matched-draw null).
    """
    trained = [e for e in evaluations if e.split == "goalposts" and e.step > 0]
    if trained and parts.config.matched_draws:
        samples = parts.config.evaluate.samples * len(trained)
        with parts.untrained() as base:
            yield _evaluate(parts, EnginePolicy(base, parts.observer), parts.sets.goalposts, samples, "matched_base", 0)


def _evaluate(
    parts: Parts, policy: Policy, problems: Sequence[Problem], samples: int, split: str, step: int
) -> Evaluation:
    params = SamplingParams(parts.config.sampling.max_tokens, parts.config.evaluate.temperature, parts.prompts.stop)

    def fresh() -> Sandbox:
        return fresh_sandbox(parts.config.sandbox, parts.observer, parts.sandboxes)

    return evaluate(
        policy, parts.prompts, fresh, problems, samples, params,
        split=split, step=step, seed=seed_of(parts.config.seed, "evaluation"), grading=parts.config.sandbox.grading,
    )  # fmt: skip


def _started(parts: Parts) -> Started:
    sets = parts.sets
    digests = Digests(
        prompts=parts.prompts.digest,
        embedder=HashedEmbedder().digest,
        model=parts.engine.digest,
        goalposts=problems_digest(sets.goalposts),
        train=problems_digest(sets.train),
        validation=problems_digest(sets.validation),
        held_out=problems_digest(sets.held_out),
    )
    texts = tuple(GoalpostText(p.id, p.statement, p.source, p.difficulty) for p in sets.goalposts)
    return Started(parts.config, __version__, digests, texts)


def problems_digest(problems: Sequence[Problem]) -> str:
    """SHA-256 of all that decides how they are asked and judged; empty where there are none."""
    return hashlib.sha256(msgspec.json.encode(problems)).hexdigest() if problems else ""
