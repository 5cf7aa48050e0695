"""A tracker's own process: reads what `trackers.Apart` tells and passes it to the library. None of them needs an account.

    python -m gasp_rl.runs.tracker_process NAME FOLDER

Whatever the library raises ends this process, and nothing else.
"""

import json
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from gasp_rl.runs.scalars import Scalars
from gasp_rl.runs.trackers import Line

PROJECT = "gasp-rl"


class Library(Protocol):
    def log(self, step: int, values: Scalars) -> None: ...

    def finish(self) -> None: ...


class TensorBoard:
    """Event files in the folder: `tensorboard --logdir runs`."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary import Writer  # noqa: PLC0415 - one of three that need not be there

        self._writer = Writer(str(folder))

    def log(self, step: int, values: Scalars) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def finish(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run in the folder, offline unless WANDB_MODE says otherwise: `wandb sync FOLDER/wandb/offline-*` uploads it."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("WANDB_MODE", "offline")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb  # noqa: PLC0415 - as above, and it reads the environment

        quiet = wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True, x_disable_stats=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=_name(folder), id=_lasting_id(folder),
            resume="allow", dir=str(folder), config=_settings(folder), settings=quiet,
        )  # fmt: skip
        # Its own steps may not be told again, as they are after a resume.
        self._run.define_metric("*", step_metric="iteration")

    def log(self, step: int, values: Scalars) -> None:
        self._run.log({"iteration": step, **values})

    def finish(self) -> None:
        self._run.finish()


class Trackio:
    """A run in trackio's own database, on this machine: `trackio show --project gasp-rl`."""

    def __init__(self, folder: Path) -> None:
        import trackio  # noqa: PLC0415 - as above

        self._run = trackio.init(
            os.environ.get("TRACKIO_PROJECT", PROJECT), name=f"{_name(folder)}-{_lasting_id(folder)}",
            resume="allow", config=_settings(folder), auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    def log(self, step: int, values: Scalars) -> None:
        self._run.log(values, step=step)

    def finish(self) -> None:
        self._run.finish()


LIBRARIES: dict[str, Callable[[Path], Library]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "trackio": Trackio,
}


def _name(folder: Path) -> str:
    return folder.resolve().parent.name


def _settings(folder: Path) -> object:
    return json.loads((folder.parent / "config.json").read_text())


def _lasting_id(folder: Path) -> str:
    """The same after a resume, and wherever the run is moved to."""
    kept = folder / "id"
    if not kept.exists():
        kept.write_text(secrets.token_hex(4))
    return kept.read_text()


def main() -> None:
    name, folder = sys.argv[1:]
    library = LIBRARIES[name](Path(folder))
    for text in sys.stdin.buffer:
        line = msgspec.json.decode(text, type=Line)
        library.log(line.step, line.values)
    library.finish()


if __name__ == "__main__":
    main()
