"""What a run needs to go on and its journal does not hold: weights and optimizer state, sealed to a place in the journal.

All else is in the journal or in the seed: goalposts drawn, buffers and the novelty archive are made again from the
proposals that were accepted, and randomness has names instead of state.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gasp_rl.errors import RunError

SEAL = "seal.json"
UNFINISHED = ".unfinished"
"""Ends the name of a checkpoint that is being written, or removed."""


class Rate(msgspec.Struct, frozen=True, array_like=True):
    """pass@k of validation."""

    k: int
    rate: float


class Seal(msgspec.Struct, frozen=True):
    """What a checkpoint is of."""

    step: int
    """Iterations done."""
    records: int
    """Records of the journal up to there, evaluations of this step included."""
    checksum: str
    """Of the last of them, and so of all."""
    files: dict[str, str]
    """SHA-256 of each file."""
    validation: tuple[Rate, ...] = ()
    """What was measured at this step."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    path: Path
    seal: Seal

    @property
    def damage(self) -> str:
        """The first file that is not what it was when it was written; empty if all are."""
        return next((name for name, digest in self.seal.files.items() if _digest(self.path / name) != digest), "")


def save_checkpoint(
    folder: Path,
    step: int,
    records: int,
    checksum: str,
    validation: Sequence[Rate],
    keep: int,
    write: Callable[[Path], None],
) -> None:
    """Have the state written, seal it, and remove all but the newest `keep` and the best by each rate of validation.

    A crash at any instant leaves each checkpoint whole or out of sight.
    """
    whole = folder / f"{step:06d}"
    fresh = whole.with_suffix(UNFINISHED)
    try:
        folder.mkdir(exist_ok=True)
        for left in [*folder.glob(f"*{UNFINISHED}"), whole]:
            shutil.rmtree(left, ignore_errors=True)
        fresh.mkdir()
        write(fresh / "engine")
        files = {str(path.relative_to(fresh)): _digest(path) for path in sorted(fresh.rglob("*")) if path.is_file()}
        (fresh / SEAL).write_bytes(msgspec.json.encode(Seal(step, records, checksum, files, tuple(validation))) + b"\n")
        _sync(fresh)
        fresh.rename(whole)
        _sync_name(folder)
    except OSError as error:
        raise RunError(
            f"checkpoint {whole} cannot be written: {error.strerror}; make room there, then go on with: "
            f"gasp resume {folder.parent}"
        ) from error
    for old in _superseded(checkpoints(folder), keep):
        gone = old.path.with_suffix(UNFINISHED)
        old.path.rename(gone)
        shutil.rmtree(gone)


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Those with a seal that can be read, newest first."""
    return sorted(_sealed(folder), key=lambda checkpoint: -checkpoint.seal.step)


def _sealed(folder: Path) -> Iterator[Checkpoint]:
    for path in folder.glob("[0-9]*"):
        if path.suffix != UNFINISHED:
            try:
                yield Checkpoint(path, msgspec.json.decode((path / SEAL).read_bytes(), type=Seal))
            except (OSError, msgspec.MsgspecError):
                continue


def _superseded(newest_first: list[Checkpoint], keep: int) -> list[Checkpoint]:
    best: dict[int, tuple[float, int]] = {}
    for seal in (checkpoint.seal for checkpoint in newest_first):
        for one in seal.validation:
            best[one.k] = max(best.get(one.k, (0.0, 0)), (one.rate, -seal.step))  # of equals the earliest
    kept = {-step for _, step in best.values()}
    return [checkpoint for checkpoint in newest_first[keep:] if checkpoint.seal.step not in kept]


def _digest(path: Path) -> str:
    """SHA-256 of a file; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _sync(folder: Path) -> None:
    """Make all that a folder holds durable."""
    for path in [*folder.rglob("*"), folder]:
        _sync_name(path)


def _sync_name(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
