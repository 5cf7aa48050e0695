"""Engines under test, small enough to be made anew for every test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from gasp_rl.cluster import Cluster
from gasp_rl.config import LoraConfig, ModelConfig, RayConfig, TinkerConfig
from gasp_rl.policy.engine import Engine
from gasp_rl.policy.local import TOKEN_BUDGET, LocalEngine
from gasp_rl.policy.lora import add_lora
from gasp_rl.policy.ray_engine import RayEngine
from gasp_rl.policy.saved import export
from gasp_rl.policy.scripted import ScriptedEngine
from gasp_rl.policy.tinker_engine import TinkerEngine
from gasp_rl.policy.tokenizer import HfTokenizer

# isort: split
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers import PreTrainedTokenizerFast as FastTokenizer

MakeEngine: TypeAlias = Callable[..., LocalEngine]

LETTERS = "abcdefghijklmnopqrstuvwxyz .\n"
VOCABULARY = {text: number for number, text in enumerate(["<pad>", "<end>", *LETTERS])}
CONTEXT = 64


def tokenizer() -> HfTokenizer:
    """One token per letter."""
    inner = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    make: Callable[..., PreTrainedTokenizerBase] = FastTokenizer
    return HfTokenizer(make(tokenizer_object=inner, eos_token="<end>", pad_token="<pad>"))


def llama(head_dim: int = 8) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(VOCABULARY), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=head_dim, max_position_embeddings=CONTEXT, tie_word_embeddings=True, bos_token_id=None,
            eos_token_id=1, pad_token_id=0,
        )
    )  # fmt: skip


def wide_llama() -> PreTrainedModel:
    """As narrow as vLLM's kernels allow."""
    return llama(head_dim=32)


def gpt2() -> PreTrainedModel:
    """Learned positions, fused attention weights, dropout: nothing that the fast path knows."""
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=len(VOCABULARY), n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, bos_token_id=None,
                   eos_token_id=1)
    )  # fmt: skip


def peaked(make: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """Random weights, large enough that tokens differ in probability."""
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.25)
    return model


def adapted(make: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """The same, all of it frozen, with adapters that have learned something."""
    model = peaked(make)
    add_lora(model, LoraConfig(rank=4))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


LOCAL = {
    "local": lambda: peaked(llama), "local-generic": lambda: peaked(gpt2), "local-lora": lambda: adapted(llama),
    "local-generic-lora": lambda: adapted(gpt2),
}  # fmt: skip
VLLM = {"local-vllm": lambda: peaked(wide_llama), "local-vllm-lora": lambda: adapted(wide_llama)}
OF_VLLM = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]  # the warnings are its own
OF_TINKER = [pytest.mark.tinker, pytest.mark.filterwarnings("ignore")]  # as well
ALL_LOCAL = [*LOCAL, *(pytest.param(name, marks=OF_VLLM) for name in VLLM)]


def local(name: str, config: ModelConfig, token_budget: int = TOKEN_BUDGET) -> LocalEngine:
    model = (LOCAL | VLLM)[name]()
    config = replace(config, sampler="vllm" if name in VLLM else "in-process")
    return LocalEngine.of(model, tokenizer(), config, dtype=torch.float32, token_budget=token_budget)


@pytest.fixture(params=ALL_LOCAL)
def make_engine(request: pytest.FixtureRequest) -> Iterator[MakeEngine]:
    """Make a local engine; the same weights each time, whatever options are given."""
    with ExitStack() as stack:

        def make(
            *, token_budget: int = TOKEN_BUDGET, batch_rows: int = 512, batch_tokens: int = 100_000
        ) -> LocalEngine:
            config = ModelConfig(batch_rows=batch_rows, batch_tokens=batch_tokens)
            return stack.enter_context(closing(local(request.param, config, token_budget)))

        yield make


@pytest.fixture
def model_engine(make_engine: MakeEngine) -> LocalEngine:
    return make_engine(batch_rows=8)


def say(prompt: str, place: int, seed: int) -> str:
    return f"{prompt} {'ab' * (place % 4)}{'c' * (seed % 5)}."


@pytest.fixture(scope="session")
def model_config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """The first of LOCAL as a directory, which other processes can open."""
    path = tmp_path_factory.mktemp("models") / "llama"
    export(LOCAL["local"](), tokenizer(), path)
    return ModelConfig(path=str(path), device="cpu", dtype="float32", threads=1, batch_rows=8)


@pytest.fixture(scope="session")
def shared_ray_engine(
    cluster: Cluster, model_config: ModelConfig, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RayEngine, list[str], Path]]:
    """One for all tests: each of its processes takes seven seconds of CPU before it does anything."""
    beginning, notes = tmp_path_factory.mktemp("checkpoints") / "beginning", list[str]()
    ray = RayConfig(learners=2, samplers=2)
    with closing(RayEngine(cluster, model_config, ray, TOKEN_BUDGET, notes.append)) as engine:
        engine.save(beginning)
        yield engine, notes, beginning


@pytest.fixture
def ray_engine(shared_ray_engine: tuple[RayEngine, list[str], Path]) -> RayEngine:
    """Two learners and two samplers, as at the beginning."""
    engine, notes, beginning = shared_ray_engine
    engine.load(beginning)
    notes.clear()
    return engine


@pytest.fixture
def ray_notes(shared_ray_engine: tuple[RayEngine, list[str], Path]) -> list[str]:
    """What `ray_engine` has said in this test."""
    return shared_ray_engine[1]


@dataclass(frozen=True, slots=True)
class TinkerService:
    """What it takes to open an engine on a service, and one in this process that is to be its equal."""

    url: str
    model: ModelConfig

    def open(self, **settings: Any) -> TinkerEngine:
        config = TinkerConfig(self.url, model="letters")
        return TinkerEngine(self.model, replace(config, **settings))

    def alike(self) -> LocalEngine:
        return LocalEngine.open(self.model)


@pytest.fixture(scope="session")
def tinker_service(
    serve_tinker: Callable[..., Any], model_config: ModelConfig, tmp_path_factory: pytest.TempPathFactory
) -> TinkerService:
    states = tmp_path_factory.mktemp("states")
    server = serve_tinker(model=model_config.path, name="letters", states=states, context=CONTEXT)
    return TinkerService(server.url, replace(model_config, lora=LoraConfig(rank=4)))


@pytest.fixture(
    params=[
        "scripted", *ALL_LOCAL, pytest.param("ray", marks=pytest.mark.ray), pytest.param("tinker", marks=OF_TINKER)
    ]
)  # fmt: skip
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "ray":
        yield request.getfixturevalue("ray_engine")
        return
    if request.param == "tinker":
        with closing(request.getfixturevalue("tinker_service").open()) as opened:
            yield opened
        return
    scripted = request.param == "scripted"
    made = ScriptedEngine(say, context=CONTEXT) if scripted else local(request.param, ModelConfig(batch_rows=8))
    with closing(made):
        yield made
