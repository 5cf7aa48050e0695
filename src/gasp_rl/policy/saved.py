"""What an engine leaves on disk, whichever engine it is: a checkpoint of one goes on with another."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from gasp_rl.errors import EngineError
from gasp_rl.policy.engine import ELSEWHERE
from gasp_rl.policy.lora import has_adapters, merged
from gasp_rl.policy.tokenizer import HfTokenizer


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint."""

    weights: Mapping[str, Tensor]
    """Those that learn, by name."""
    moments: Mapping[str, Tensor]
    """Of the optimizer, by "slot/name"."""
    version: int


def write_state(path: Path, saved: Saved) -> None:
    """All or nothing."""
    with replacing(path) as fresh:
        save_file({name: weight.contiguous() for name, weight in saved.weights.items()}, fresh / "weights.safetensors")
        save_file({key: value.contiguous() for key, value in saved.moments.items()}, fresh / "optimizer.safetensors")
        (fresh / "engine.json").write_text(json.dumps({"version": saved.version}) + "\n")


def read_state(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Saved:
    """EngineError if it is damaged, or of a model whose weights have other names or shapes."""
    if (path / ELSEWHERE).exists():
        raise EngineError(f"checkpoint {path} is kept by a Tinker service, {ELSEWHERE} there says where: only the engine tinker "
                          "goes on with it")  # fmt: skip
    try:
        weights = load_file(path / "weights.safetensors")
        moments = load_file(path / "optimizer.safetensors")
        version = int(json.loads((path / "engine.json").read_text())["version"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"checkpoint {path} cannot be read: {error}") from error
    if {name: tuple(weight.shape) for name, weight in weights.items()} != shapes:
        raise EngineError(f"checkpoint {path} is of another model: its weights have other names or shapes")
    return Saved(weights, moments, version)


def digest_of(weights: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 over their names and bits."""
    found = hashlib.sha256()
    for name, weight in weights:
        found.update(name.encode())
        found.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


def export(model: PreTrainedModel, tokenizer: HfTokenizer, path: Path) -> None:
    """Write a directory that `transformers` loads, adapters added to the weights."""
    with replacing(path) as fresh:
        (merged(model) if has_adapters(model) else model).save_pretrained(fresh)
        tokenizer.inner.save_pretrained(fresh)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A fresh directory that takes the place of `path` when the block ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield fresh
        fresh.chmod(0o755)  # mkdtemp makes it private
        for file in fresh.iterdir():
            _sync(file)
        _sync(fresh)
        if path.exists():
            shutil.rmtree(path)
        fresh.rename(path)
        _sync(path.parent)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _sync(path: Path) -> None:
    """Have what was written to a file or directory reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
