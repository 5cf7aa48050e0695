"""A run on a cluster of its own, by the command line: what it costs to lose its processes, one after the other."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gasp_rl.runs.directory import RunDirectory
from gasp_rl.runs.journal import Finished, read_journal

pytestmark = pytest.mark.ray

PATIENCE = 300.0
SETTINGS = (
    "--engine ray --ray.learners 2 --ray.samplers 1 --ray.sandboxes 1 --ray.object-store-mb 80 --steps 3 "
    "--problems.max-goalposts 4 --learn.lr 1e-4 --evaluate.every 2 --evaluate.samples 2 --evaluate.temperature 1.0 --evaluate.ks 1 2 "
    "--evaluate.validation-problems 3 --gasp.goalposts-per-step 4 --gasp.tries 4 --gasp.practice-per-step 6 "
    "--gasp.buffer-capacity 5 --model.device cpu --model.dtype float32 --model.threads 1 --sandbox.workers 1"
)

BUSIEST = "--learn.overlap --learn.truncate 2 --ray.transfer broadcast"
"""Samplers go on while learners learn, and have to be found by them."""

COMMAND = """
import signal, sys
from gasp_rl.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run where it is ignored: in the background
sys.exit(main())
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "RAY_memory_monitor_refresh_ms": "0"}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def train(out: Path, more: str = "") -> subprocess.Popen[str]:
    return start("train", "micro-gasp", *SETTINGS.split(), *more.split(), "--out", str(out))


def ended(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=PATIENCE)
    return said


def until(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert process.poll() is None, ended(process)
        assert time.monotonic() < end
        time.sleep(0.05)


def iterations(run: RunDirectory) -> int:
    return len(read_journal(run.journal).iterations) if run.journal.exists() else 0


def descendants(root: int) -> dict[int, str]:
    """Names of all processes below one, by id."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            names[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        parents[int(entry.name)] = int(fields[1])
    found: dict[int, str] = {}
    frontier = {root}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier} - found.keys()
        found |= {child: names[child] for child in frontier}
    return found


def gone(processes: dict[int, str]) -> bool:
    """Whether they are all gone; Ray's take a moment to notice."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        left = [p for p in processes if Path(f"/proc/{p}/cmdline").exists() and Path(f"/proc/{p}/cmdline").read_bytes()]
        if not left:
            return True
        time.sleep(0.2)
    return False


def kill(process: subprocess.Popen[str], kind: str) -> None:
    os.kill(max(one for one, name in descendants(process.pid).items() if kind in name), signal.SIGKILL)


def bytes_of(run: RunDirectory) -> tuple[bytes, bytes]:
    return run.journal.read_bytes(), (run.model / "model.safetensors").read_bytes()


def test_a_run_that_loses_a_sampler_and_a_learner_and_is_resumed_ends_as_one_that_lost_none(tmp_path: Path) -> None:
    whole, run = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "run")
    undisturbed = train(whole.root, BUSIEST)
    said = ended(undisturbed)
    assert undisturbed.returncode == 0, said
    journal = read_journal(whole.journal)
    assert isinstance(journal.ending, Finished)
    lifts = [
        phase.update for one in journal.iterations for phase in one.phases if phase.name == "lift" and phase.update
    ]
    assert {update.lag for update in lifts if update.rollouts} == {
        1
    }  # sampled while what the lemmas taught was learned
    assert {evaluation.split for evaluation in journal.evaluations} == {"validation", "goalposts", "matched_base"}

    process = train(run.root, BUSIEST)
    until(lambda: iterations(run) == 1, process)
    processes = descendants(process.pid)
    kill(process, "SamplerProcess")
    until(lambda: iterations(run) == 2, process)
    kill(process, "LearnerProcess")
    said = ended(process)

    assert process.returncode == 2
    assert "sampler 1 of 1 died" in said
    assert "gasp: learner" in said.splitlines()[-1]
    assert f"gasp resume {run.root} goes on" in said.splitlines()[-1].replace("\n", "")
    assert gone(processes)

    again = start("resume", str(run.root))
    said = ended(again)
    assert again.returncode == 0, said
    assert bytes_of(run) == bytes_of(whole)


def test_an_interrupted_run_leaves_no_process_behind(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    process = train(run.root)
    until(run.journal.exists, process)
    processes = descendants(process.pid)
    assert sum("Process" in name for name in processes.values()) >= 4

    process.send_signal(signal.SIGINT)
    said = ended(process)

    assert process.returncode == 130, said
    assert gone(processes)
