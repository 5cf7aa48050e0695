"""What the documents tell people to type works as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_journey_from_a_folder_of_problems_to_an_exported_model(tmp_path: Path) -> None:
    commands = "".join(BLOCK.findall(Path("docs/your-problems.md").read_text(encoding="utf-8")))
    gasp = tmp_path / "bin" / "gasp"
    gasp.parent.mkdir()
    gasp.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gasp_rl.cli "$@"\n')
    gasp.chmod(0o755)
    here = tmp_path / "here"
    here.mkdir()

    path = f"{gasp.parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(Path("src").resolve()), "COLUMNS": "100"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands], cwd=here, env=env, capture_output=True, text=True, check=False
    )

    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    for words in (
        "6 problems",
        "Goalposts: mined/goalposts.jsonl",
        "Report: runs/first/report.html",
        "pass@20",
        "my-model can be loaded with transformers",
    ):
        assert words in said
    assert {"before.json", "after.json", "mined", "my-model", "problems", "runs", "sets"} == {
        p.name for p in here.iterdir()
    }
