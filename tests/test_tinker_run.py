"""A run with a service on loopback, by the command line: killed, interrupted, its service killed, and each time resumed."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gasp_rl.runs.directory import RunDirectory
from gasp_rl.runs.journal import Finished, read_journal

pytestmark = pytest.mark.tinker

PATIENCE = 300.0
SETTINGS = (
    "--engine tinker --model.lora.rank 8 --tinker.silence-seconds 20 --steps 3 --problems.max-goalposts 3 --learn.lr 1e-3 "
    "--evaluate.every 3 --evaluate.samples 2 --evaluate.temperature 1.0 --evaluate.ks 1 2 --evaluate.validation-problems 2 "
    "--gasp.goalposts-per-step 3 --gasp.min-programs 3 --gasp.max-attempts 2 --gasp.tries 4 --gasp.practice-per-step 4 "
    "--gasp.buffer-capacity 5 --sandbox.workers 1"
)

COMMAND = """
import signal, sys
from gasp_rl.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run where it is ignored: in the background
sys.exit(main())
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def train(out: Path, url: str) -> subprocess.Popen[str]:
    return start("train", "micro-gasp", *SETTINGS.split(), "--tinker.address", url, "--out", str(out))


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


def children(process: subprocess.Popen[str]) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]) == process.pid:
                found.append(int(entry.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


def test_a_run_that_is_killed_interrupted_and_loses_its_service_ends_as_one_that_was_left_alone(
    serve_tinker: Callable[..., Any], tmp_path: Path
) -> None:
    options: dict[str, object] = {"model": "micro", "name": "micro", "states": tmp_path, "context": 1024}
    server = serve_tinker(**options)
    whole, run = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "run")
    undisturbed = train(whole.root, server.url)
    said = ended(undisturbed)
    assert undisturbed.returncode == 0, said
    journal = read_journal(whole.journal)
    assert isinstance(journal.ending, Finished)
    assert {evaluation.split for evaluation in journal.evaluations} == {"validation", "goalposts", "matched_base"}
    assert sum(phase.update.rollouts for it in journal.iterations for phase in it.phases if phase.update) > 10

    process = train(run.root, server.url)
    until(lambda: iterations(run) == 1, process)
    process.kill()
    process.communicate()

    process = start("resume", str(run.root))
    until(lambda: iterations(run) == 2, process)
    below = children(process)
    process.send_signal(signal.SIGINT)
    said = ended(process)
    assert process.returncode == 130, said
    assert not any(Path(f"/proc/{one}").exists() for one in below)
    assert server.process.poll() is None

    process = start("resume", str(run.root))
    until(lambda: read_journal(run.journal).ending is None, process)
    server.process.kill()
    server.process.wait()
    said = ended(process)
    assert process.returncode == 2
    assert f"gasp: the Tinker service at {server.url} is gone" in said.splitlines()[-1]
    assert f"gasp resume {run.root} goes on" in said.splitlines()[-1]

    serve_tinker(**options, port=server.port)
    process = start("resume", str(run.root))
    said = ended(process)
    assert process.returncode == 0, said
    assert run.journal.read_bytes() == whole.journal.read_bytes()
