"""Open a model: weights from safetensors or GGUF only, no code from a model directory, one clear line when it fails."""

import ctypes
import importlib.util
import json
import logging
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from gasp_rl.errors import ModelError
from gasp_rl.policy.engine import ELSEWHERE
from gasp_rl.policy.tokenizer import HfTokenizer

MICRO = "micro"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")

_without_bars: Callable[[], None] = transformers_logging.disable_progress_bar
_without_bars()  # reading or writing takes a second; a download keeps its own bar


LARGE = 100_000_000
"""Parameters from which on blocks are given back: those of six layers of a 0.5B model's shape, with adapters and computed again,
took 1.06 GiB for an update of 1,494 tokens before, .28 after."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where `transformers` finds a model."""

    path: str
    """As it was named."""
    name: str
    """A directory or a hub name."""
    gguf: str = ""
    """A file in that directory."""

    @property
    def options(self) -> dict[str, Any]:
        return {"trust_remote_code": False} | ({"gguf_file": self.gguf} if self.gguf else {})


def open_model(path: str, dtype: torch.dtype = torch.float32) -> tuple[PreTrainedModel, HfTokenizer]:
    """A model, with its weights in this type, and its tokenizer. `path` is `micro`, a directory, a GGUF file, or a hub name."""
    model, tokenizer = _load(_find(path), dtype)
    if model.num_parameters() >= LARGE:
        _give_back_large_blocks()
    return model, tokenizer


def open_tokenizer(path: str) -> HfTokenizer:
    """The tokenizer of a model whose weights are elsewhere. Of a directory its tokenizer's files are enough."""
    local = Path(path).expanduser()
    source = _Source(path, str(local)) if local.is_dir() else _find(path)
    with _told(source):
        tokenizer = AutoTokenizer.from_pretrained(source.name, **source.options)
        return HfTokenizer(tokenizer, _ends(_endings(source)))


def _endings(source: _Source) -> Any:
    """The tokens that end a text, as whichever file there is says."""
    kinds: tuple[Any, ...] = (GenerationConfig, AutoConfig)
    for kind in kinds:
        with suppress(OSError):  # it has no such file
            return kind.from_pretrained(source.name, **source.options).eos_token_id
    return None


def _ends(eos: int | list[int] | None) -> list[int]:
    return eos if isinstance(eos, list) else [] if eos is None else [eos]


def blank_model(path: str) -> PreTrainedModel:
    """The same model without its weights: they have shapes and no memory. A directory with config.json alone will do."""
    bare = Path(path).expanduser()
    source = _Source(path, str(bare)) if _describes_only(bare) else _find(path)
    from_config: Callable[..., PreTrainedModel] = AutoModelForCausalLM.from_config
    read: Callable[..., Any] = AutoConfig.from_pretrained
    with _told(source), torch.device("meta"):
        return from_config(read(source.name, **source.options), trust_remote_code=False)


def _give_back_large_blocks() -> None:
    """Have glibc return what a large model is done with at once; it would keep blocks of up to 32 MiB, and between those of
    layers computed again there is soon no room for the next. For small models the pages cost more than they are worth.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 4 * 2**20)
        libc.mallopt(M_TRIM_THRESHOLD, 64 * 2**20)


def _find(path: str) -> _Source:
    if path == MICRO:
        return _local(str(files("gasp_rl") / "data" / MICRO), "the embedded model is not installed: reinstall gasp-rl")
    local = Path(path).expanduser()
    if local.exists() or path.startswith(("/", ".", "~")) or path.count("/") > 1:
        return _local(str(local), "give a Hugging Face directory, a GGUF file, or a hub name like owner/model")
    return _Source(path, path)


def _local(path: str, fix: str) -> _Source:
    """A local directory or file, looked through before anything is loaded from it."""
    local = Path(path)
    if local.is_file():
        if local.suffix != ".gguf":
            raise ModelError(f"model.path {path!r} is neither a directory nor a .gguf file: {fix}")
        return _Source(path, str(local.parent), local.name)
    if not local.is_dir():
        raise ModelError(f"model.path {path!r} does not exist: {fix}")

    if (local / ELSEWHERE).exists():
        raise ModelError(f"model.path {path!r} stands for weights that a Tinker service keeps: {ELSEWHERE} in it says where; "
                         "fetch them with `tinker checkpoint download`")  # fmt: skip
    ggufs = sorted(local.glob("*.gguf"))
    if any(local.glob("*.safetensors")):
        _check_config(local)
        return _Source(path, path)
    if len(ggufs) == 1:
        return _Source(path, path, ggufs[0].name)
    if ggufs:
        raise ModelError(f"model.path {path!r} holds {len(ggufs)} GGUF files: name one, like {str(ggufs[0])!r}")
    pickles = sorted(file.name for file in local.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise ModelError(f"model.path {path!r} holds its weights as a pickle ({pickles[0]}), which can run code when it is "
                         "read: convert it with save_pretrained, which writes safetensors")  # fmt: skip
    raise ModelError(f"model.path {path!r} holds no *.safetensors: {fix}")


def _describes_only(directory: Path) -> bool:
    """Whether there is a configuration and no weights of any kind."""
    weights = ("*.safetensors", "*.gguf", *(f"*{suffix}" for suffix in PICKLES))
    described = (directory / "config.json").is_file()
    return described and not any(next(directory.glob(pattern), None) for pattern in weights)


def _check_config(directory: Path) -> None:
    config = directory / "config.json"
    try:
        json.loads(config.read_bytes())
    except FileNotFoundError:
        raise ModelError(
            f"model.path {str(directory)!r} has no config.json: copy it from where the weights came"
        ) from None
    except ValueError as error:
        raise ModelError(f"{config} is not valid JSON ({error}): copy it again from where the weights came") from None


@contextmanager
def _told(source: _Source) -> Iterator[None]:
    """Faults of reading a model become one line."""
    if source.gguf and importlib.util.find_spec("gguf") is None:
        raise ModelError(f"model.path {source.path!r} needs the gguf package: pip install 'gasp-rl[gguf]'")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # each retry is a warning; the last word is ours
    try:
        yield
    except BROKEN as error:
        if not Path(source.name).exists():
            raise ModelError(
                f"model.path {source.path!r} is neither here nor to be had from the model hub: check the name, or the "
                f"connection ({type(error).__name__}); gasp plan makes do with a directory that holds its config.json"
            ) from error
        reason = " ".join(str(error).split())
        raise ModelError(f"model.path {source.path!r} cannot be loaded: {reason[:300]}") from error


def _load(source: _Source, dtype: torch.dtype) -> tuple[PreTrainedModel, HfTokenizer]:
    read: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
    with _told(source):
        tokenizer = AutoTokenizer.from_pretrained(source.name, **source.options)
        model, info = read(
            source.name,
            dtype=dtype,
            use_safetensors=None if source.gguf else True,
            output_loading_info=True,
            **source.options,
        )
    if info["missing_keys"]:
        some = ", ".join(sorted(info["missing_keys"])[:3])
        raise ModelError(f"model.path {source.path!r} lacks weights ({some}): copy the model again, with all its files")
    return model, HfTokenizer(tokenizer, _ends(model.generation_config.eos_token_id))


BROKEN = (
    OSError, ValueError, LookupError, ImportError, RuntimeError, AttributeError, TypeError, SafetensorError, struct.error
)  # fmt: skip
"""What `transformers` and `safetensors` raise on files that are missing, truncated, or not what they say.

All of it is somebody else's parser reading somebody else's file, so the cause is kept as it was raised.
"""
