"""Dashboards that watch a run: JSON lines always, TensorBoard, Weights & Biases and trackio where they are asked for.

Each of the others lives in a process of its own (`tracker_process`): it can neither slow the run nor end it. One that
fails, hangs or cannot keep up is noted once and dropped.
"""

import math
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

import msgspec

from gasp_rl.errors import ConfigError
from gasp_rl.progress import Silent
from gasp_rl.rollout import Evaluation, Iteration
from gasp_rl.runs import scalars
from gasp_rl.runs.append import Appender
from gasp_rl.runs.metrics import Measurement
from gasp_rl.runs.scalars import Scalars

WAITING_BYTES: Final = 1 << 20
"""What may wait for a tracker that is slow: some hundreds of iterations."""

FAREWELL_SECONDS: Final = 10.0
"""For what a tracker has left to do when the run is over. What it could not upload is on disk."""


class Tracker(Protocol):
    """Where the curves of a run go. Nothing is raised: a tracker that fails says so once and is dropped."""

    def log(self, step: int, values: Scalars) -> None:
        """The numbers of an iteration, 0 before training; all are finite. After a resume some are told again: the last
        count.
        """
        ...

    def close(self) -> None: ...


def require_installed(names: Iterable[str]) -> None:
    """Raises ConfigError for the first that is not."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(f"track: {name} is not installed; get it with: pip install 'gasp-rl[{name}]'")


class Line(msgspec.Struct, frozen=True):
    """What is told at a time."""

    step: int
    values: Scalars


class JsonLines:
    """One object per iteration: `{"step": 3, "lemma/reward": -0.2, ...}`."""

    def __init__(self, path: Path, note: Callable[[str], None]) -> None:
        self._file = Appender(path, note)

    def log(self, step: int, values: Scalars) -> None:
        self._file.write({"step": step, **values})

    def close(self) -> None:
        """Nothing is kept open."""


class Remembering:
    """A tracker that keeps what it is told. Public: tests of whoever tells a tracker need one."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Scalars]] = []
        self.closed = False

    def log(self, step: int, values: Scalars) -> None:
        self.told.append((step, dict(values)))

    def close(self) -> None:
        self.closed = True


def tracker_command(name: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "gasp_rl.runs.tracker_process", name, str(folder)]


class Apart:
    """A tracker in a process of its own, that reads JSON lines. It begins with the first of them, and what it prints is
    in `tracker.log` in its folder.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        note: Callable[[str], None],
        command: Callable[[str, Path], Sequence[str]] = tracker_command,
        farewell_seconds: float = FAREWELL_SECONDS,
    ) -> None:
        self._name = name
        self._folder = folder
        self._note = note
        self._command = command
        self._farewell_seconds = farewell_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting = bytearray()
        self._dropped = False

    def log(self, step: int, values: Scalars) -> None:
        if self._dropped:
            return
        self._waiting += msgspec.json.encode(Line(step, values)) + b"\n"
        try:
            self._send()
        except OSError as error:
            self._drop(f"failed: {error.strerror or error}")
        if len(self._waiting) > WAITING_BYTES:
            self._drop("cannot keep up")

    def close(self) -> None:
        """Let it finish what it has, but not for ever."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(bytes(self._waiting), self._farewell_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self._drop(f"was not done {self._farewell_seconds:g} s after the end")
        if process.returncode and not self._dropped:
            self._drop(f"ended with exit status {process.returncode}")

    def _send(self) -> None:
        """As much of what waits as goes without waiting."""
        pipe = (self._process or self._start()).stdin
        assert pipe is not None
        try:
            while self._waiting:
                del self._waiting[: os.write(pipe.fileno(), self._waiting)]
        except BlockingIOError:
            return

    def _start(self) -> subprocess.Popen[bytes]:
        self._folder.mkdir(exist_ok=True)
        with (self._folder / "tracker.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                self._command(self._name, self._folder),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the run, which then says goodbye
            )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        return self._process

    def _drop(self, why: str) -> None:
        self._dropped = True
        self._waiting.clear()
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None
        self._note(f"tracker {self._name} {why}; the run goes on without it (see {self._folder / 'tracker.log'})")


class Tracking(Silent):
    """Gathers the numbers of an iteration from what the loop tells, and passes them on when it is over."""

    def __init__(self, trackers: Sequence[Tracker], ks: Sequence[int], past: Iterable[Measurement] = ()) -> None:
        """`past`: what earlier lives of the run cost."""
        self._trackers = tuple(trackers)
        self._ks = tuple(ks)
        self._seconds, self._tokens = 0.0, 0
        for measurement in past:
            self._count(measurement)
        self._step = 0
        self._iterated = 0
        """The newest iteration that is known as a whole."""
        self._begun = False
        self._values: defaultdict[int, Scalars] = defaultdict(dict)
        """By step. With `learn.overlap` an iteration begins before the last one is known."""
        self._measured: list[Measurement] = []

    def iteration(self, step: int, steps: int) -> None:
        self._pass_on(self._iterated)
        self._begun = True
        self._step = step

    def phase(self, name: str, detail: str = "") -> None:
        self._begun = True

    def iterated(self, iteration: Iteration) -> None:
        self._iterated = iteration.step
        self._values[iteration.step] |= scalars.of_iteration(iteration)

    def signal(self, name: str, value: float, alarm: str) -> None:
        values = self._values[self._iterated]
        values[f"health/{name}"] = value
        values["health/alarms"] = values.get("health/alarms", 0.0) + bool(alarm)

    def evaluation(self, evaluation: Evaluation) -> None:
        if self._begun:  # else it is told of the past
            self._values[self._step] |= scalars.of_evaluation(evaluation, self._ks)

    def measured(self, measurement: Measurement) -> None:
        self._measured.append(measurement)

    def close(self) -> None:
        self._pass_on(self._step)
        for tracker in self._trackers:
            tracker.close()

    def _count(self, measurement: Measurement) -> None:
        self._seconds += measurement.seconds
        self._tokens += measurement.tokens

    def _pass_on(self, last: int) -> None:
        """All that is known of the iterations up to this one."""
        for step in sorted({*self._values, *(m.step for m in self._measured)}):
            if step <= last:
                self._tell(step)

    def _tell(self, step: int) -> None:
        measured = [m for m in self._measured if m.step == step]
        self._measured = [m for m in self._measured if m.step != step]
        values = self._values.pop(step, {}) | scalars.of_measurements(measured)
        for measurement in measured:
            self._count(measurement)
        if measured:
            values["cost/seconds_so_far"] = self._seconds
            values["cost/tokens_so_far"] = float(self._tokens)
        if values:
            finite = {name: value for name, value in values.items() if math.isfinite(value)}
            for tracker in self._trackers:
                tracker.log(step, finite)
