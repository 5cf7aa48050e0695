"""Ends runs in every ugly way, resumes them, and compares what is left with a run that was left alone.

    python bench/crash.py [--points 50] [--seed 0]

A point is one fault at a random place of a small guided run: see FAULTS. After each, what the journal had acknowledged must
be there, as the straight run wrote it; then the run is resumed with the next fault. A run that gets to its end must have
the straight run's journal and weights, byte for byte, and the store that its journal gives. Prints a line per point;
ends with an error if anything was lost or differs.
"""

import argparse
import errno
import itertools
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from gasp_rl.build import resume_run, run_recipe
from gasp_rl.config import CheckpointConfig, EvaluateConfig, RunConfig
from gasp_rl.errors import GaspError
from gasp_rl.progress import Silent
from gasp_rl.recipes import gasp, micro
from gasp_rl.runs.directory import RunDirectory
from gasp_rl.runs.journal import JournalWriter, read_journal
from gasp_rl.runs.store import make_store, read_store

SECONDS = 4.0
"""Of CPU time: a fault that comes at any instant comes before. About what is left of a run costs."""
TORN = 0.25
"""Share of the points after which the last record looks torn, as a disk may leave it."""
STOPPED = 3
"""Exit code of a run that stopped by itself."""

Fault: TypeAlias = Callable[[random.Random], None]


def small() -> RunConfig:
    recipe = micro(gasp())
    assert recipe.gasp is not None
    return replace(
        recipe,
        steps=3,
        gasp=replace(recipe.gasp, goalposts_per_step=6, tries=5, practice_per_step=8, buffer_capacity=5),
        problems=replace(recipe.problems, max_goalposts=6),
        learn=replace(recipe.learn, lr=1e-4),
        model=replace(recipe.model, threads=1),
        evaluate=EvaluateConfig(every=2, samples=2, temperature=1.0, ks=(1, 2), validation_problems=4),
        checkpoint=CheckpointConfig(keep=1),
    )


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def instead_of(name: str, nth: int, then: Callable[..., object]) -> None:
    """Let the nth call of a function of `os` do something else."""
    usual, calls = getattr(os, name), itertools.count(1)
    put(os, name, lambda *args: then(*args) if next(calls) == nth else usual(*args))


def put(where: ModuleType, name: str, function: Callable[..., object]) -> None:
    """Let a module have another function under this name."""
    setattr(where, name, function)


# Each fault is armed in the process that will meet it.


def killed(rng: random.Random) -> None:
    """kill -9, at any instant"""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process as SIGKILL would: at once, without a word
    signal.setitimer(signal.ITIMER_PROF, rng.uniform(0.01, SECONDS))


def terminated(rng: random.Random) -> None:
    """SIGTERM, as a cluster sends it"""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGPROF, stop)  # what the command line does on SIGTERM
    signal.setitimer(signal.ITIMER_PROF, rng.uniform(0.01, SECONDS))


def torn_write(rng: random.Random) -> None:
    """killed in the middle of writing a record"""

    def half(file: int, data: bytes) -> None:
        usual(file, data[: rng.randrange(len(data))])
        die()

    usual = os.write
    instead_of("write", rng.randint(1, 6), half)


def unsynced(rng: random.Random) -> None:
    """killed before a record, a checkpoint or a name is durable"""
    instead_of("fsync", rng.randint(1, 30), lambda _: die())


def full_disk(rng: random.Random) -> None:
    """no room for a record"""

    def no_room(file: int, data: bytes) -> None:
        usual(file, data[: rng.randrange(len(data))])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    usual = os.write
    instead_of("write", rng.randint(2, 6), no_room)


def in_checkpoint(rng: random.Random) -> None:
    """killed while a checkpoint is written, sealed, or put in the place of another"""

    calls, nth = itertools.count(1), rng.randint(1, 60)

    def at_nth(event: str, about: tuple[object, ...]) -> None:
        changes = event in {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}
        if changes and "checkpoints" in str(about[0]) and next(calls) == nth:
            die()

    sys.addaudithook(at_nth)


def in_store(rng: random.Random) -> None:
    """killed in a transaction of the store, or while one store is put in the place of another"""

    calls, nth = itertools.count(1), rng.randint(1, 3000)

    def step(*_: object) -> None:
        if next(calls) == nth:
            die()

    def renamed(event: str, about: tuple[object, ...]) -> None:
        if event in {"os.rename", "os.remove"} and "curriculum" in str(about[0]):
            step()

    def connect(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = usual(*args, **options)
        connection.set_trace_callback(step)
        return connection

    usual = sqlite3.connect
    put(sqlite3, "connect", connect)
    sys.addaudithook(renamed)


FAULTS = (killed, terminated, torn_write, unsynced, full_disk, in_checkpoint, in_store)


class Witness(Silent):
    """Writes down how many bytes of the journal were promised: all that are there when the loop speaks."""

    def __init__(self, run: RunDirectory, said: Path) -> None:
        self._run = run
        self._said = said

    def phase(self, name: str, detail: str = "") -> None:
        self._said.write_text(str(self._run.journal.stat().st_size))

    def note(self, text: str) -> None:
        print(f"    {text}", flush=True)


def segment(root: Path, said: Path, fault: Fault | None, seed: int) -> None:
    """Begin a run, or go on with it, until the fault or the end. Its exit code says which."""
    witness = Witness(RunDirectory(root), said)
    if fault:
        fault(random.Random(seed))
    try:
        if (root / "config.json").exists():
            resume_run(root, witness)
        else:
            run_recipe(small(), root, witness)
    except (KeyboardInterrupt, GaspError) as end:
        print(f"    {type(end).__name__} {end}")
        sys.exit(STOPPED)


def dump(store: Path) -> list[str]:
    with closing(read_store(store)) as connection:
        return list(connection.iterdump())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()

    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["gasp_rl.build", "gasp_rl.policy.local"])  # torch is read once
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        straight = run_recipe(small(), Path(folder) / "straight", Silent())
        expected = straight.journal.read_bytes()
        met: Counter[str] = Counter()
        points = runs = torn = 0
        while points < asked.points:
            runs += 1
            run, said = RunDirectory(Path(folder) / f"run-{runs}"), Path(folder) / "said"
            while True:
                fault = FAULTS[points % len(FAULTS)] if points < asked.points else None
                said.write_text("0")
                process = processes.Process(target=segment, args=(run.root, said, fault, rng.getrandbits(32)))
                process.start()
                process.join()
                if process.exitcode == 0:
                    break
                if fault is None or process.exitcode not in {-signal.SIGKILL, -signal.SIGPROF, STOPPED}:
                    sys.exit(f"a run ended with {process.exitcode}, which no fault explains")
                points += 1
                met[str(fault.__doc__)] += 1
                promised = int(said.read_text() or 0)
                if not run.config.exists():  # ended before it began
                    continue
                kept = run.journal.read_bytes() if run.journal.exists() else b""
                if kept[:promised] != expected[:promised]:
                    sys.exit(f"after {fault.__doc__}: {promised} bytes of the journal were promised and are not there")
                if kept and rng.random() < TORN:
                    torn += 1
                    with run.journal.open("ab") as file:
                        file.write(expected[: rng.randrange(1, 400)].rstrip(b"\n"))
                iterations = len(read_journal(run.journal).iterations) if kept else 0
                print(f"{points:>4}  {fault.__doc__}: {iterations} iterations kept", flush=True)
            for path, name in ((run.journal, "journal"), (run.model / "model.safetensors", "weights")):
                if path.read_bytes() != (straight.root / path.relative_to(run.root)).read_bytes():
                    sys.exit(f"run {runs}: the {name} differ from those of the run that was left alone")
            with JournalWriter(run.journal) as journal:
                make_store(Path(folder) / "afresh.sqlite", journal)
            if dump(run.store) != dump(Path(folder) / "afresh.sqlite"):
                sys.exit(f"run {runs}: the store differs from the one that its journal gives")
        print(f"{points} points in {runs} runs, {torn} of them with a torn last record; all as if nothing had happened")
        for name, count in met.items():
            print(f"  {count:>3}  {name}")


if __name__ == "__main__":
    main()
