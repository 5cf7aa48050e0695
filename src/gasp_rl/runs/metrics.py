"""Times, speed and memory of a run, one measurement per line. Never truth: two equal runs differ here."""

import resource
from pathlib import Path

import msgspec

from gasp_rl.errors import RunError


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
