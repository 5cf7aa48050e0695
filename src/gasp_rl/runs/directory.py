"""A run on disk: one directory, and where everything in it lies."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gasp_rl.config import RunConfig
from gasp_rl.errors import ConfigError, RunError


@dataclass(frozen=True, slots=True)
class RunDirectory:
    root: Path

    @property
    def config(self) -> Path:
        """The resolved settings, every one of them."""
        return self.root / "config.json"

    @property
    def journal(self) -> Path:
        """The only truth; all else can be made again from it, but for the weights."""
        return self.root / "journal.jsonl"

    @property
    def store(self) -> Path:
        """What the journal says, as tables for SQL."""
        return self.root / "curriculum.sqlite"

    @property
    def metrics(self) -> Path:
        """Times, speed and memory."""
        return self.root / "metrics.jsonl"

    @property
    def scalars(self) -> Path:
        """The curves, for people's own plots."""
        return self.root / "scalars.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        """The trained model, as a Hugging Face directory; there once the run has finished."""
        return self.root / "model"

    @property
    def report(self) -> Path:
        return self.root / "report.html"


def create_run(root: Path, config: RunConfig) -> RunDirectory:
    """Make the directory and write its settings. Nothing that exists is overwritten."""
    run = RunDirectory(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise RunError(f"{root} already holds files; give another --out, or remove it first")
        run.config.write_bytes(encode_config(config))
    except OSError as error:
        raise RunError(f"{root} cannot be created: {error.strerror}") from error
    return run


def open_run(root: Path) -> RunDirectory:
    """An existing run. Its journal may be missing yet, its settings may not."""
    run = RunDirectory(root)
    if not run.config.is_file():
        raise RunError(f"{root} is not a run directory: it has no {run.config.name}")
    return run


def encode_config(config: RunConfig) -> bytes:
    return msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"


def read_config(path: Path) -> RunConfig:
    """Settings written by `create_run`, or by hand. A key that means nothing is refused, not ignored."""
    try:
        data = path.read_bytes()
        config = msgspec.json.decode(data, type=RunConfig)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: {error}") from error

    for key, valid in _unknown_keys(msgspec.json.decode(data), msgspec.to_builtins(config)):
        raise ConfigError(f"{path}: unknown setting {key}{_nearest(key, valid)}")
    return config


def _unknown_keys(given: object, known: object, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Keys of `given` that re-encoding the decoded settings does not give back, each with those that exist there."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key in known:
                yield from _unknown_keys(value, known[key], f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", [f"{prefix}{name}" for name in known]
    elif isinstance(given, list) and isinstance(known, list | tuple):
        for index, (value, counterpart) in enumerate(zip(given, known, strict=True)):
            yield from _unknown_keys(value, counterpart, f"{prefix}{index}.")


def _nearest(key: str, valid: list[str]) -> str:
    close = difflib.get_close_matches(key, valid, n=1)
    return f"; did you mean {close[0]}?" if close else ""
