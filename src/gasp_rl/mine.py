"""Find goalposts: problems that no arm ever solves (arXiv:2603.15957 §3.2, its three filters).

0. The untrained model.
1. Post-RL: every evaluated checkpoint of RL on the train split.
2. Unguided self-play: every evaluated checkpoint of an AZR run (the paper: one released checkpoint).
3. Final RL: one more RL run, on what is left itself.
A problem with a single passing sample anywhere is out, and so is one that was not asked as often as it should be (its
prompt does not fit the model, the sandbox failed): nobody knows whether it is never solved.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import msgspec

from gasp_rl.build import run_recipe
from gasp_rl.config import RunConfig
from gasp_rl.errors import ConfigError
from gasp_rl.problem import Problem
from gasp_rl.problems.jsonl import read_problems, skipped, write_problems
from gasp_rl.progress import Observer
from gasp_rl.rollout import Evaluation
from gasp_rl.runs.directory import RunDirectory
from gasp_rl.runs.journal import read_journal

RunRecipe: TypeAlias = Callable[[RunConfig, Path, Observer], RunDirectory]
"""Runs a recipe into a new directory."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter as it was run, and what it left."""

    name: str
    recipe: str
    seed: int
    steps: int
    samples: int
    """Draws per problem at each evaluation."""
    evaluations: int
    """Evaluated versions of the weights."""
    given: int
    solved: tuple[str, ...]
    """Ids that had a passing sample at any evaluation."""
    unsure: tuple[str, ...]
    """Ids without one, and with fewer judged samples than asked for at some evaluation."""


ON_THE_REST = "3-rlvr-on-the-rest"


@dataclass(frozen=True, slots=True)
class Mined:
    """The goalposts and how they were found."""

    goalposts: tuple[Problem, ...]
    filters: tuple[Filter, ...]


def mine(
    candidates: Path,
    rlvr: RunConfig,
    azr: RunConfig,
    seeds: Sequence[int],
    out: Path,
    observer: Observer,
    *,
    quick: bool = False,
    run_recipe: RunRecipe = run_recipe,
) -> Mined:
    """Run the filters one after another, each on what the ones before it left, until nothing is left.

    Writes goalposts.jsonl, filters.json and one run directory per filter into `out`. `quick` stops after the untrained
    model; `rlvr.problems.max_goalposts` limits the candidates.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds must be at least one, all different, got {tuple(seeds)}")
    for config in (rlvr, azr):
        if config.steps < 1:
            raise ConfigError(f"{config.recipe}: steps must be at least 1 to filter anything, got {config.steps}")

    untrained = replace(rlvr, steps=0, evaluate=replace(rlvr.evaluate, at_start=True))
    rlvr, azr = (replace(c, evaluate=replace(c.evaluate, at_start=False)) for c in (rlvr, azr))
    stages = [("0-untrained", untrained, seeds[0])]
    if not quick:
        stages += [(f"1-rlvr-seed{seed}", rlvr, seed) for seed in seeds]
        stages += [("2-azr", azr, seeds[0]), (ON_THE_REST, rlvr, seeds[0])]

    given = read_problems(candidates, rlvr.problems.reading)
    if given.malformed:
        observer.note(skipped(candidates, given.malformed))
    left = given.problems[: rlvr.problems.max_goalposts or None]
    filters: list[Filter] = []
    for name, config, seed in stages:
        if not left:
            break
        here = out / name
        here.mkdir(parents=True)
        write_problems(here / "candidates.jsonl", left)
        problems = replace(config.problems, goalposts=str(here / "candidates.jsonl"), validation="", max_goalposts=0)
        if name == ON_THE_REST:
            problems = replace(problems, train=problems.goalposts)
        directory = run_recipe(
            replace(config, seed=seed, problems=problems, matched_draws=False), here / "run", observer
        )
        found = [e for e in read_journal(directory.journal).evaluations if e.split == "goalposts"]
        one, left = _filtered(name, config, seed, left, found)
        filters.append(one)
        unsure = f", {len(one.unsure)} unsure" if one.unsure else ""
        observer.note(f"{name}: {one.given} problems, {len(one.solved)} solved{unsure}, {len(left)} left")

    mined = Mined(tuple(left), tuple(filters))
    write_problems(out / "goalposts.jsonl", mined.goalposts)
    (out / "filters.json").write_bytes(msgspec.json.format(msgspec.json.encode(mined.filters), indent=2) + b"\n")
    return mined


def _filtered(
    name: str, config: RunConfig, seed: int, given: Sequence[Problem], evaluations: Sequence[Evaluation]
) -> tuple[Filter, tuple[Problem, ...]]:
    samples = config.evaluate.samples
    scores = [score for evaluation in evaluations for score in evaluation.scores]
    solved = {score.problem for score in scores if score.passes}
    unsure = {score.problem for score in scores if score.samples < samples} - solved
    one = Filter(
        name, config.recipe, seed, config.steps, samples, len(evaluations), len(given),
        tuple(sorted(solved)), tuple(sorted(unsure)),
    )  # fmt: skip
    return one, tuple(problem for problem in given if problem.id not in solved | unsure)
