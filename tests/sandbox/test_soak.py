"""A short one of `bench/soak.py`: hundreds of programs, some hostile, workers that die, and nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_nothing_is_left_behind_by_many_programs_and_no_verdict_is_wrong() -> None:
    soak = [sys.executable, str(ROOT / "bench/soak.py"), "--programs", "800", "--every", "100", "--kill", "150"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(soak, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing was left behind" in done.stdout
