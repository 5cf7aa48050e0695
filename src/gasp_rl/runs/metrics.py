"""Times, speed and memory of a run, one measurement per line. Never truth: two equal runs differ here."""

import resource
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from gasp_rl.errors import RunError
from gasp_rl.progress import Silent


class Measurement(msgspec.Struct, frozen=True):
    """What one phase cost."""

    step: int
    phase: str
    seconds: float
    tokens: int = 0
    """Sampled in it."""
    memory_mb: float = 0.0
    """Most memory this process has held so far."""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


def peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB


def append_measurement(path: Path, measurement: Measurement) -> None:
    try:
        with path.open("ab") as file:
            file.write(msgspec.json.encode(measurement) + b"\n")
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from error


def read_measurements(path: Path) -> tuple[Measurement, ...]:
    """All whole lines; none where the file is missing."""
    if not path.is_file():
        return ()
    whole = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    try:
        return tuple(msgspec.json.decode(line, type=Measurement) for line in whole)
    except msgspec.MsgspecError as error:
        raise RunError(f"{path} is corrupt: {error}") from error


class Stopwatch(Silent):
    """An observer that writes down how long each phase took, when the next begins and at the end."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._step = 0
        self._phase = ""
        self._since = clock()
        self._tokens = 0

    def iteration(self, step: int, steps: int) -> None:
        self.close()
        self._phase = ""
        self._step = step

    def phase(self, name: str, detail: str = "") -> None:
        self.close()
        self._phase, self._since, self._tokens = name, self._clock(), 0

    def sampling(self, tokens: int) -> None:
        self._tokens += tokens

    def close(self) -> None:
        """Write down the phase that ends here, if one has begun."""
        if not self._phase:
            return
        seconds = round(self._clock() - self._since, 3)
        measured = Measurement(self._step, self._phase, seconds, self._tokens, round(peak_memory_mb(), 1))
        append_measurement(self._path, measured)
