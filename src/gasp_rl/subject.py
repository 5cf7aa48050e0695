"""Open whatever is to be asked problems, by name: the embedded model, a run, a checkpoint, a directory, an endpoint."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from gasp_rl.config import EndpointConfig, LoraConfig, ModelConfig, PromptsName
from gasp_rl.errors import ModelError
from gasp_rl.policy.endpoint import Endpoint, is_endpoint
from gasp_rl.policy.local import LocalEngine
from gasp_rl.policy.policy import EnginePolicy
from gasp_rl.policy.respondent import Respondent
from gasp_rl.progress import Observer
from gasp_rl.runs.checkpoint import Checkpoint, checkpoints
from gasp_rl.runs.directory import RunDirectory, read_config
from gasp_rl.runs.results import ModelFacts
from gasp_rl.selfplay.prompts.asking import BASE, LCB, LCB_QWEN
from gasp_rl.selfplay.prompts.base import ProblemPrompts
from gasp_rl.selfplay.prompts.chat import CHAT
from gasp_rl.selfplay.prompts.micro import MICRO
from gasp_rl.selfplay.prompts.r1 import R1

PROMPTS: dict[PromptsName, ProblemPrompts] = {
    "micro": MICRO, "chat": CHAT, "base": BASE, "r1": R1, "lcb": LCB, "lcb-qwen": LCB_QWEN,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Subject:
    """A model, ready to be asked."""

    respondent: Respondent
    prompts: ProblemPrompts
    facts: ModelFacts


@contextmanager
def open_subject(config: ModelConfig, endpoint: EndpointConfig, observer: Observer) -> Iterator[Subject]:
    """The model that `config.path` names, closed afterwards."""
    if is_endpoint(config.path):
        remote = Endpoint(config.path, endpoint, observer)
        facts = ModelFacts(config.path, f"{remote.url}#{remote.model}")
        yield Subject(remote, PROMPTS["chat" if config.prompts == "auto" else config.prompts], facts)
        return

    with open_engine(config) as (engine, trained_with, facts):
        prompts = config.prompts if config.prompts != "auto" else trained_with or _prompts_of(engine)
        yield Subject(EnginePolicy(engine, observer), PROMPTS[prompts], facts)


@contextmanager
def open_engine(config: ModelConfig) -> Iterator[tuple[LocalEngine, PromptsName | None, ModelFacts]]:
    """The model that `config.path` names, in this process and not to be trained; with the prompts that it was trained
    with, where that is known. Closed afterwards.
    """
    found = locate(config.path)
    with closing(
        LocalEngine.open(replace(config, path=found.weights, lora=found.lora or config.lora), learns=False)
    ) as engine:
        if found.checkpoint:
            engine.load(found.checkpoint.path / "engine")
        weights = str(found.checkpoint.path) if found.checkpoint else found.weights
        yield engine, found.prompts, ModelFacts(config.path, weights, engine.digest, engine.dtype, found.step)


def _prompts_of(engine: LocalEngine) -> PromptsName:
    if engine.named_prompts == MICRO.name:
        return "micro"
    return "chat" if engine.tokenizer.inner.chat_template else "base"


@dataclass(frozen=True, slots=True)
class Located:
    """Where a model that somebody named is."""

    weights: str
    """What `LocalEngine.open` takes."""
    prompts: PromptsName | None = None
    """Those it was trained with, where that is known."""
    checkpoint: Checkpoint | None = None
    """To be loaded over `weights`."""
    lora: LoraConfig | None = None
    """The adapters that it holds."""
    step: int = 0


def locate(path: str) -> Located:
    """A run stands for its trained model, or, while it has none, for its newest whole checkpoint."""
    folder = Path(path).expanduser()
    if run := _run_at(folder):
        config = read_config(run.config)
        if run.model.is_dir():
            return Located(str(run.model), config.model.prompts, step=config.steps)
        whole = next((one for one in checkpoints(run.checkpoints) if not one.damage), None)
        if whole is None:
            raise ModelError(f"model.path {path!r} is a run without a trained model or a whole checkpoint yet")
        return Located(config.model.path, config.model.prompts, whole, config.model.lora, whole.seal.step)
    if (run := _run_at(folder.parent)) and folder.name == run.model.name:
        config = read_config(run.config)
        return Located(path, config.model.prompts, step=config.steps)
    if (run := _run_at(folder.parent.parent)) and folder.parent.name == run.checkpoints.name:
        one = next((one for one in checkpoints(run.checkpoints) if one.path.name == folder.name), None)
        if one is None or one.damage:
            why = f"is damaged ({one.damage})" if one else "has no seal that can be read"
            raise ModelError(f"model.path {path!r} {why}: name another checkpoint of {run.root}")
        config = read_config(run.config)
        return Located(config.model.path, config.model.prompts, one, config.model.lora, one.seal.step)
    return Located(path)


def _run_at(folder: Path) -> RunDirectory | None:
    run = RunDirectory(folder)
    return run if run.journal.is_file() and run.config.is_file() else None
