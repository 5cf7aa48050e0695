"""What this machine can enforce against an untrusted program, found by enforcing it.

L4  namespaces (own users, processes, network, mounts: a root with nothing but libraries) and all of L3
L3  Landlock (no files but libraries, no TCP, no signals outside) and all of L2
L2  seccomp (an allow-list of system calls: no processes, sockets, tracing, entropy) and all of L1
L1  limits of CPU time, memory, output and files; an empty environment; a warm process per program
"""

import fcntl
import marshal
import os
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from gasp_rl.errors import SandboxError

Level = Literal["L1", "L2", "L3", "L4"]
Tier = Literal["small", "large"]
"""Which modules a worker has loaded."""
_BOOT: Final = "import marshal, os; code = marshal.loads(os.pread({0}, 1 << 20, 0)); os.close({0}); exec(code)"
LEVELS: Final[tuple[Level, ...]] = ("L4", "L3", "L2", "L1")
WORKER: Final = Path(__file__).with_name("worker.py")
START_SECONDS: Final = 60.0
"""A worker that is not ready by then is broken; on a busy machine a start can take seconds."""
RISK: Final = {
    "L1": "programs could read files and use the network with your rights",
    "L2": "programs could learn sizes of files; modules that are not preloaded cannot be imported",
    "L3": "programs could learn names and sizes of files, not their contents",
    "L4": "nothing but bugs of the kernel is known",
}


@dataclass(frozen=True, slots=True)
class Isolation:
    """The highest level that holds here, and why each higher one does not."""

    level: Level
    refused: tuple[tuple[Level, str], ...] = ()


@cache
def _compiled(program: Path) -> int:
    """A descriptor to read the worker's code from: to compile it anew would cost each worker a megabyte."""
    code = os.memfd_create("worker", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(code, marshal.dumps(compile(program.read_bytes(), str(program), "exec")))
    fcntl.fcntl(
        code, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    )
    return code


def start_worker(level: Level, hash_seed: int, tier: Tier = "small") -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A process that confines itself at `level` and then waits for jobs. Its first message is `ready` or its excuse."""
    ours, theirs = socket.socketpair()
    code = _compiled(WORKER)
    with theirs:
        process = subprocess.Popen(
            # Not -I: that would ignore the hash seed too. Its other halves are -P, -s and the environment below.
            [
                sys.executable,
                "-P",
                "-s",
                "-S",
                "-B",
                "-X",
                "utf8",
                "-c",
                _BOOT.format(code),
                str(theirs.fileno()),
                level,
                tier,
            ],
            pass_fds=[theirs.fileno(), code],
            env={"PYTHONHASHSEED": str(hash_seed % (1 << 32)), "MALLOC_ARENA_MAX": "1"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt from the keyboard is for the trainer
        )
    return process, ours


def excuse(channel: socket.socket) -> str:
    """Empty if the worker at the other end is ready; else what it could not enforce."""
    channel.settimeout(START_SECONDS)
    try:
        header = channel.recv(4, socket.MSG_WAITALL)
        if len(header) < 4:
            return "the worker process ended before it was ready"
        (length,) = struct.unpack("<I", header)
        message = channel.recv(min(length, 1 << 12), socket.MSG_WAITALL).decode("utf-8", "replace")
    except TimeoutError:
        return f"the worker process was not ready after {START_SECONDS:.0f} s"
    return "" if message == "ready" else message


@cache
def probe() -> Isolation:
    """Start a worker at each level, from the strictest, until one holds."""
    if not sys.platform.startswith("linux"):
        raise SandboxError(
            f"programs are confined by Linux, this is {sys.platform}: run gasp in a Linux container or VM"
        )
    refused: list[tuple[Level, str]] = []
    for level in LEVELS:
        process, channel = start_worker(level, hash_seed=0)
        with channel:
            reason = excuse(channel)
        process.kill()
        process.wait()
        if not reason:
            return Isolation(level, tuple(refused))
        refused.append((level, reason))
    raise SandboxError(f"the sandbox cannot start here: {refused[-1][1]} ({sys.executable}, {os.uname().release})")


def require_level(least: Level) -> Level:
    """The level in force, or SandboxError if it is below `least`."""
    found = probe()
    if LEVELS.index(found.level) > LEVELS.index(least):
        wanted = dict(found.refused).get(least, "refused")
        raise SandboxError(
            f"this machine isolates programs at level {found.level} only, {least} is required ({wanted}); "
            f"to accept that {RISK[found.level]}: --sandbox.min-level {found.level}"
        )
    return found.level


def describe() -> str:
    """For `gasp doctor`: the level, what remains, and why there is no more."""
    found = probe()
    lines = [f"{found.level}: remaining risk: {RISK[found.level]}"]
    lines += [f"{level} does not hold: {reason}" for level, reason in found.refused]
    return "\n".join(lines)
