"""What an engine leaves on disk, whichever engine it is: a checkpoint of one goes on with another.

A checkpoint is written in shares, one per process that learns: each holds a run of rows of every tensor, in their order, and
whoever reads it takes the rows that it needs, however many wrote it. One process writes one share.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from gasp_rl.errors import EngineError
from gasp_rl.policy.engine import ELSEWHERE
from gasp_rl.policy.lora import has_adapters, merged
from gasp_rl.policy.tokenizer import HfTokenizer

Rows: TypeAlias = Callable[[int], slice]
"""Which of so many."""
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Share:
    """One of several that make up a whole.

    >>> Share(1, 3).rows(7)
    slice(3, 6, None)
    """

    place: int = 0
    of: int = 1

    def rows(self, count: int) -> slice:
        """Which of so many are its own: as `torch.chunk` cuts them, and FSDP. The last may have fewer, or none."""
        each = -(-count // self.of)
        return slice(min(self.place * each, count), min((self.place + 1) * each, count))

    def file(self, kind: str) -> str:
        return f"{kind}-{self.place + 1}-of-{self.of}.safetensors"


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint, or a share of it."""

    weights: Mapping[str, Tensor]
    """Those that learn, by name."""
    moments: Mapping[str, Tensor]
    """Of the optimizer, by "slot/name"."""
    version: int


def write_state(path: Path, saved: Saved) -> None:
    """All or nothing."""
    with replacing(path) as fresh:
        write_share(fresh, saved.weights, saved.moments, Share())
        write_index(fresh, saved.version, shares=1)


def write_share(folder: Path, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor], share: Share) -> None:
    """Of what has no rows, as the optimizer's step counts, the first share is all."""
    for kind, tensors in (("weights", weights), ("optimizer", moments)):
        own = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor.dim() or not share.place}
        save_file(own, folder / share.file(kind))


def write_index(folder: Path, version: int, shares: int) -> None:
    """What makes shares that lie together a checkpoint."""
    (folder / "engine.json").write_text(json.dumps({"version": version, "shares": shares}) + "\n")


def read_state(path: Path, shapes: Shapes, rows: Rows = Share().rows) -> Saved:
    """These rows of each tensor. EngineError if it is damaged, or of a model whose weights have other names or shapes."""
    if (path / ELSEWHERE).exists():
        raise EngineError(f"checkpoint {path} is kept by a Tinker service, {ELSEWHERE} there says where: only the engine tinker "
                          "goes on with it")  # fmt: skip
    try:
        index = json.loads((path / "engine.json").read_text())
        version, shares = int(index["version"]), int(index["shares"])
        weights, found = _read(path, "weights", shares, rows)
        moments, _ = _read(path, "optimizer", shares, rows)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise EngineError(f"checkpoint {path} cannot be read: {error}") from error
    if found != shapes:
        raise EngineError(f"checkpoint {path} is of another model: its weights have other names or shapes")
    return Saved(weights, moments, version)


def _read(path: Path, kind: str, shares: int, rows: Rows) -> tuple[dict[str, Tensor], Shapes]:
    """Tensors, and the shapes that they have as a whole."""
    found: dict[str, Tensor] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    with ExitStack() as stack:
        open_share: Callable[..., Any] = safe_open
        files = [
            stack.enter_context(open_share(path / Share(place, shares).file(kind), "pt")) for place in range(shares)
        ]
        for name in files[0].keys():  # noqa: SIM118 - not a dict
            shape = files[0].get_slice(name).get_shape()
            if shape:
                pieces = [file.get_slice(name) for file in files]
                height = sum(piece.get_shape()[0] for piece in pieces)
                found[name] = _cut(pieces, rows(height))
                shapes[name] = (height, *shape[1:])
            else:
                found[name] = files[0].get_tensor(name)
                shapes[name] = ()
    return found, shapes


def _cut(pieces: Sequence[Any], wanted: slice) -> Tensor:
    """These rows of a tensor whose pieces lie behind one another."""
    parts: list[Tensor] = [pieces[0][0:0]]
    first = 0
    for piece in pieces:
        last = first + piece.get_shape()[0]
        low, high = max(wanted.start, first), min(wanted.stop, last)
        if low < high:
            parts.append(piece[low - first : high - first])
        first = last
    return torch.cat(parts)


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
