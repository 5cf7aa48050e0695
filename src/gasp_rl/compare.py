"""Does guidance help? Train several recipes from the same weights, on the same problems, to the same budget, over seeds.

Every (arm, seed) is a run of its own. It is evaluated after equal shares of the budget, on validation and goalposts; the
versions with the best validation are chosen, and the test split is looked at once, with those. What is left of it is one
small file (`runs.arms`), so a comparison may take several sittings and machines, and processes side by side: each takes what
nobody has finished or taken.
"""

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

import msgspec

from gasp_rl import __version__
from gasp_rl.build import PROMPT_SETS, fresh_sandbox, go_on, problem_set, problems_digest
from gasp_rl.config import BudgetConfig, CompareConfig, EndpointConfig, Matched, RunConfig
from gasp_rl.errors import ConfigError, RunError
from gasp_rl.evaluate import evaluate
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.problem import Problem
from gasp_rl.progress import Observer, Silent
from gasp_rl.rollout import Evaluation
from gasp_rl.runs.arms import (
    SCHEMA,
    ArmResult,
    Chosen,
    Point,
    Terms,
    read_comparison,
    require_same_terms,
    result_path,
    scores,
    write_result,
    written,
)
from gasp_rl.runs.differences import differences
from gasp_rl.runs.directory import RunDirectory
from gasp_rl.runs.journal import Journal, read_journal
from gasp_rl.runs.ledger import trained_tokens
from gasp_rl.runs.metrics import Measurement, Spent, read_measurements
from gasp_rl.stats import mean_pass_at_k
from gasp_rl.streams import seed_of
from gasp_rl.subject import open_subject

MOST_ITERATIONS = 100_000
"""Of an arm that samples next to nothing, whose budget would never be spent."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A recipe under the settings that all arms share."""

    name: str
    config: RunConfig


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of the matrix."""

    arm: Arm
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm.name}-seed{self.seed}"

    @property
    def config(self) -> RunConfig:
        return replace(self.arm.config, seed=self.seed)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the matrix is when a run of it begins."""

    cell: Cell
    done: int
    of: int
    seconds_left: float | None
    """For all that is left, this run included; None while nothing says how long a run takes."""


View: TypeAlias = Callable[[Standing], AbstractContextManager[Observer]]
"""Shows one run."""

RunCell: TypeAlias = Callable[[Cell, CompareConfig, Terms, Sequence[Problem], RunDirectory, Observer], ArmResult]
"""Does all that there is to do for one run, from wherever it is."""


def arms(named: dict[str, RunConfig], cfg: CompareConfig) -> tuple[Arm, ...]:
    """These recipes with the shared settings, budget and evaluations in the place of their own."""
    return tuple(Arm(name, _shared(recipe, cfg)) for name, recipe in named.items())


def _shared(recipe: RunConfig, cfg: CompareConfig) -> RunConfig:
    tokens = cfg.match is Matched.TOKENS
    trained = recipe.steps > 0
    return replace(
        recipe,
        steps=MOST_ITERATIONS if trained else 0,
        model=cfg.model,
        problems=cfg.problems,
        sampling=cfg.sampling,
        sandbox=cfg.sandbox,
        learn=replace(recipe.learn, lr=cfg.lr),
        matched_draws=False,  # the untrained model is an arm
        budget=BudgetConfig(training_tokens=int(cfg.budget)) if tokens else BudgetConfig(training_seconds=cfg.budget),
        checkpoint=replace(recipe.checkpoint, best=cfg.ks),
        evaluate=replace(
            recipe.evaluate,
            times=cfg.evaluations,
            at_start=not trained,
            samples=cfg.samples if trained else cfg.samples * cfg.evaluations,  # as many draws as the others in all
            ks=cfg.ks,
            temperature=cfg.temperature,
            validation_problems=cfg.validation_problems,
        ),
    )


def compare(
    compared: Sequence[Arm],
    cfg: CompareConfig,
    out: Path,
    view: View,
    tell: Callable[[ArmResult], None],
    *,
    run: RunCell | None = None,
) -> tuple[ArmResult, ...]:
    """Run what is not finished yet, seed by seed, so that a comparison cut short has all arms. All results of `out`.

    ConfigError or InputError, before anything is run, where `out` holds results on other terms or of other settings.
    """
    cells = [Cell(arm, seed) for seed in range(cfg.first_seed, cfg.first_seed + cfg.seeds) for arm in compared]
    test = problem_set(cfg.test, "test", cfg.problems.reading, Silent())
    terms = terms_of(cfg, test)
    finished = read_comparison(out)
    for result in finished:
        require_same_terms(result, terms, "what is asked for now")
        _require_same_settings(result, cells)

    seconds: dict[str, list[float]] = {}
    for result in finished:
        seconds.setdefault(result.arm, []).append(result.seconds)
    for cell in cells:
        with _claim(out / "runs" / f"{cell.name}.lock") as ours:
            left = [c for c in cells if not result_path(out, c.arm.name, c.seed).exists()]
            if not ours or cell not in left:
                continue
            with view(Standing(cell, len(cells) - len(left), len(cells), _expected(left, seconds))) as observer:
                result = (run or _run)(cell, cfg, terms, test, RunDirectory(out / "runs" / cell.name), observer)
            write_result(out, result)
        seconds.setdefault(result.arm, []).append(result.seconds)
        tell(result)
    return read_comparison(out)


@contextmanager
def _claim(path: Path) -> Iterator[bool]:
    """Whether this process may do what the file stands for; no other can until it is done or has died."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _require_same_settings(result: ArmResult, cells: Sequence[Cell]) -> None:
    """Of a result that is asked for again. Threads and workers may differ: they are the machine's."""
    for cell in cells:
        if (cell.arm.name, cell.seed) == (result.arm, result.seed):
            before, now = (msgspec.to_builtins(_without_machine(config)) for config in (result.config, cell.config))
            if changes := list(differences(before, now)):
                raise ConfigError(
                    f"{result_path(Path(), result.arm, result.seed)} was run with other settings than are asked for now: "
                    f"{'; '.join(map(str, changes))}; move it away to run it again, or give another --out"
                )


def _without_machine(config: RunConfig) -> RunConfig:
    return replace(
        config, model=replace(config.model, threads=0), sandbox=replace(config.sandbox, workers=0, server="")
    )


def _expected(left: Sequence[Cell], seconds: dict[str, list[float]]) -> float | None:
    """Each as long as its arm took so far, or as all did where it was not run yet."""
    known = [one for each in seconds.values() for one in each]
    return sum(fmean(seconds.get(cell.arm.name, known)) for cell in left) if known else None


def terms_of(cfg: CompareConfig, test: Sequence[Problem]) -> Terms:
    """What all results must share; opens the model for its digest."""
    named = cfg.problems

    def digest(name: str, split: str, most: int = 0) -> str:
        return problems_digest(problem_set(name, split, named.reading, Silent())[: most or None])

    with open_subject(cfg.model, EndpointConfig(), Silent()) as untrained:
        model = untrained.facts.digest
    return Terms(
        match=cfg.match,
        budget=cfg.budget,
        evaluations=cfg.evaluations,
        samples=cfg.samples,
        test_samples=cfg.test_samples,
        ks=cfg.ks,
        temperature=cfg.temperature,
        max_tokens=cfg.sampling.max_tokens,
        lr=cfg.lr,
        model=model,
        prompts=PROMPT_SETS[cfg.model.prompts].digest,
        goalposts=digest(named.goalposts, "goalposts", named.max_goalposts),
        validation=digest(named.validation, "validation", cfg.validation_problems),
        test=problems_digest(test),
        train=digest(named.train, "train"),
    )


def _run(
    cell: Cell, cfg: CompareConfig, terms: Terms, test: Sequence[Problem], run: RunDirectory, observer: Observer
) -> ArmResult:
    """Train to the budget, from wherever the run is; choose on validation; look at the test split."""
    go_on(cell.config, run.root, observer, examine=lambda _: None)
    journal = read_journal(run.journal)
    _require_same_world(journal, terms, run)
    measurements = read_measurements(run.metrics)
    points = _points(journal, measurements)

    spent, since = Spent(), time.monotonic()
    for measurement in measurements:
        spent.add(measurement)
    observer.phase("test", f"{len(test)} problems")
    best = chosen(points, cfg.ks)
    looks = {step: _look(cell, cfg, run, step, test, observer) for step in best}
    return ArmResult(
        schema=SCHEMA,
        arm=cell.arm.name,
        seed=cell.seed,
        terms=terms,
        config=cell.config,
        package=__version__,
        commit=source_commit(),
        machine=machine(cell.config),
        iterations=len(journal.iterations),
        points=points,
        tested=tuple(Chosen(step, best[step], scores(found)) for step, found in looks.items()),
        written=written(journal.iterations),
        training_tokens=trained_tokens(journal.iterations),
        training_seconds=round(spent.training_seconds, 1),
        tokens=trained_tokens(journal.iterations)
        + sum(e.sampled_tokens for e in journal.evaluations)
        + sum(found.sampled_tokens for found in looks.values()),
        seconds=round(spent.seconds + time.monotonic() - since, 1),
    )


def _require_same_world(journal: Journal, terms: Terms, run: RunDirectory) -> None:
    started = journal.started
    assert started is not None, "a run that is over has begun"
    digests = started.digests
    known = (terms.model, terms.prompts, terms.goalposts, terms.validation)
    if (digests.model, digests.prompts, digests.goalposts, digests.validation) != known:
        raise RunError(f"{run.root} was run with another model, prompts or problems than there are now; remove it")


def _points(journal: Journal, measurements: Sequence[Measurement]) -> tuple[Point, ...]:
    steps = sorted({evaluation.step for evaluation in journal.evaluations})

    def of(step: int, split: str) -> list[Evaluation]:
        return [e for e in journal.evaluations if (e.step, e.split) == (step, split)]

    return tuple(
        Point(
            step,
            trained_tokens(iteration for iteration in journal.iterations if iteration.step <= step),
            round(sum(m.seconds for m in measurements if m.training and m.step <= step), 1),
            *(tuple(score for e in of(step, split) for score in scores(e)) for split in ("validation", "goalposts")),
        )
        for step in steps
    )


def chosen(points: Sequence[Point], ks: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Steps of the versions with the best validation pass@k, the earliest of equals, each with the k it is best at."""
    found: dict[int, tuple[int, ...]] = {}
    for k in ks:
        best = max(points, key=lambda point: (mean_pass_at_k(point.validation, k) or 0.0, -point.step))
        found[best.step] = (*found.get(best.step, ()), k)
    return found


def _look(
    cell: Cell, cfg: CompareConfig, run: RunDirectory, step: int, test: Sequence[Problem], observer: Observer
) -> Evaluation:
    """At the test split, with one version of the weights."""
    checkpoint = run.checkpoints / f"{step:06d}"
    if step and not checkpoint.is_dir():
        raise RunError(f"{checkpoint}, which validation chose, is gone; remove {run.root} to run it again")
    model = replace(cfg.model, path=str(checkpoint) if step else cfg.model.path)
    with open_subject(model, EndpointConfig(), observer) as subject:
        return evaluate(
            subject.respondent, subject.prompts, lambda: fresh_sandbox(cfg.sandbox, observer), test, cfg.test_samples,
            SamplingParams(cfg.sampling.max_tokens, cfg.temperature, subject.prompts.stop),
            split="test", step=step, seed=seed_of(cell.seed, "test"), grading=cfg.sandbox.grading,
        )  # fmt: skip


def source_commit() -> str:
    """Of this package's source, where it lies in its repository; `+` where that has changes; else nothing."""
    here = Path(__file__).parent

    def git(*asked: str) -> str:
        return subprocess.run(["git", "-C", here, *asked], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603, S607

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine(config: RunConfig) -> str:
    """What the seconds are of."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    threads = config.model.threads or cores
    return f"{named[0] if named else 'unknown processor'}, {cores} cores, {threads} for the model"
