"""Run untrusted programs. Knows nothing of models or rewards.

The process that runs a program holds its code and its inputs, nothing else: expected values never enter it, and what
comes out is judged by `gasp_rl.sandbox.judge`, outside.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gasp_rl.config import Limits


class Status(StrEnum):
    """What a program did."""

    OK = "ok"
    COMPILE_ERROR = "compile_error"
    RUNTIME_ERROR = "runtime_error"
    TIMEOUT_CPU = "timeout_cpu"
    TIMEOUT_WALL = "timeout_wall"
    MEMORY = "memory"
    OUTPUT_LIMIT = "output_limit"
    CRASH = "crash"
    FORBIDDEN = "forbidden"
    UNSERIALIZABLE = "unserializable"
    """The result is not a plain value of exact builtin types, or is too large or too deep."""
    NO_RESULT = "no_result"
    """It ended without giving all its results."""
    PROTOCOL = "protocol"
    """It tampered with the result channel."""
    INFRA = "infra"
    """A fault of ours: retried once elsewhere, then reported; never the program's fault."""


@dataclass(frozen=True, slots=True)
class Job:
    """One program and the inputs to run it on, each from fresh argument values.

    entry "" : a stdin program; each input is the whole standard input, each result the whole standard output.
    entry "f": a function, or a method of class `Solution` if the source defines one; each input is the literal text
    of its positional arguments, `[1, 2], 3`, each result the canonical text of what it returned.
    """

    source: str
    inputs: tuple[str, ...]
    entry: str = "f"
    limits: Limits | None = None
    """None: the sandbox's own."""
    hash_seed: int = 0
    """Programs that differ under different hash seeds are not deterministic. Any but 0 also has a time zone, an
    environment and a directory of its own."""
    clock: float | None = None
    """Seconds since 1970 that every clock shows, standing still; threads are refused. None: clocks run."""
    stop_on_error: bool = True
    """Do not run later inputs after one that failed."""
    alone: bool = False
    """Run each input in a process of its own, with all limits anew; only their output counts together."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one input gave."""

    status: Status
    value: str = ""
    """Canonical literal text of the returned value, or standard output. Empty unless status is OK."""
    detail: str = ""
    """Exception type and message, signal, limit: short, for people."""


@dataclass(frozen=True, slots=True)
class Execution:
    """What a program did on its inputs. `results` has one entry per input that was reached."""

    status: Status
    """OK if every input gave a value; else the first failure."""
    results: tuple[Result, ...] = ()
    detail: str = ""
    cpu_seconds: float = 0.0
    level: str = ""
    """Isolation level that was in force (L1 to L4)."""


class Sandbox(Protocol):
    def execute(self, jobs: Iterable[Job]) -> Iterator[tuple[int, Execution]]:
        """Run every job once; yield (its index, what happened) in the order they finish.

        Bounded in flight: `jobs` is read only as far as there is room, so it may be a generator that is still
        producing. Raises SandboxError if no worker can be kept alive.
        """
        ...

    def close(self) -> None: ...
