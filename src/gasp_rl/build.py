"""From settings to live objects: the one module that names concrete classes."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import msgspec

from gasp_rl.config import GaspConfig, ModelConfig, RunConfig
from gasp_rl.curriculum.buffer import PracticeBuffer
from gasp_rl.curriculum.deck import GoalpostDeck
from gasp_rl.evaluate import evaluate
from gasp_rl.learn.learner import Learner
from gasp_rl.loop import Run, azr_iteration, gasp_iteration, rlvr_iteration, train
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.policy.local import LocalEngine
from gasp_rl.policy.policy import Policy
from gasp_rl.problem import Problem
from gasp_rl.problems.jsonl import read_problems
from gasp_rl.progress import Observer
from gasp_rl.rollout import Evaluation, Iteration
from gasp_rl.runs.directory import RunDirectory, create_run
from gasp_rl.runs.journal import Digests, GoalpostText, JournalWriter, Started, Stopped
from gasp_rl.sandbox.local import LocalSandbox
from gasp_rl.selfplay.free import FreePlay
from gasp_rl.selfplay.novelty import HashedEmbedder, NoveltyArchive
from gasp_rl.selfplay.play import Play
from gasp_rl.selfplay.prompts.base import PromptSet
from gasp_rl.selfplay.prompts.chat import CHAT
from gasp_rl.selfplay.prompts.micro import MICRO
from gasp_rl.selfplay.student import Student
from gasp_rl.selfplay.teacher import Teacher

MICRO_FILES = Path(str(files("gasp_rl"))) / "data" / "microcode"
PROMPT_SETS: dict[str, PromptSet] = {"micro": MICRO, "chat": CHAT}


@dataclass(frozen=True, slots=True)
class ProblemSets:
    goalposts: tuple[Problem, ...]
    train: tuple[Problem, ...]
    validation: tuple[Problem, ...]


def run_recipe(config: RunConfig, out: Path, observer: Observer) -> RunDirectory:
    """Run a recipe into a new directory. Whatever ends it early, the journal stays whole and says why."""
    with ExitStack() as stack:
        sets = load_problems(config)
        directory = create_run(out, config)
        journal = stack.enter_context(JournalWriter(directory.journal))
        engine = stack.enter_context(closing(LocalEngine.open(config.model, config.learn.token_budget)))
        sandbox = stack.enter_context(closing(LocalSandbox(config.sandbox)))
        policy = Policy(engine)
        prompts = PROMPT_SETS[config.model.prompts]
        journal.append(_started(config, sets, prompts, engine))
        run = Run(
            config,
            iterate=_iterate(config, sets, policy, sandbox, prompts, Learner(engine, config.learn, config.sampling.temperature), observer),
            evaluate=_evaluations(config, sets, policy, prompts),
            conclude=_matched_draws(config, sets, prompts),
            journal=journal,
            observer=observer,
        )
        try:
            train(run)
        except BaseException as error:
            journal.append(Stopped(type(error).__name__))
            raise
    return directory
