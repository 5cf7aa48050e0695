import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import gasp_rl
from gasp_rl.errors import RunError
from gasp_rl.runs.directory import create_run
from gasp_rl.runs.journal import Journal, JournalWriter


@pytest.fixture
def folder(tmp_path: Path, run: Journal) -> Path:
    assert run.started
    made = create_run(tmp_path / "runs" / "micro-gasp", run.started.config)
    with JournalWriter(made.journal) as journal:
        for record in run.records:
            journal.append(record)
    return tmp_path


def test_a_run_is_rows_of_what_its_journal_holds(folder: Path, run: Journal) -> None:
    loaded = gasp_rl.load_run(folder / "runs" / "micro-gasp")
    written = [p for i in run.iterations for phase in i.phases for p in phase.proposals]

    assert [(row.id, row.accepted, row.program) for row in loaded.proposals] == [
        (p.id, p.accepted, p.program) for p in written
    ]
    assert sum(row.correct for row in loaded.rollouts) == sum(
        a.judgement == "correct" for i in run.iterations for phase in i.phases for a in phase.answers
    )
    assert len(loaded.evaluations) == sum(len(e.scores) for e in run.evaluations)
    assert loaded.started == run.started


def test_rows_become_a_frame_as_they_are(folder: Path) -> None:
    loaded = gasp_rl.load_run(folder / "runs" / "micro-gasp")

    frame = pd.DataFrame(loaded.proposals)

    assert len(frame) == len(loaded.proposals)
    assert frame.accepted.dtype == bool
    assert frame[~frame.accepted].rejection.str.len().min() > 0


def test_a_run_that_has_not_begun_is_empty_and_another_folder_is_refused(tmp_path: Path, run: Journal) -> None:
    assert run.started
    create_run(tmp_path / "new", run.started.config)

    assert gasp_rl.load_run(tmp_path / "new").proposals == ()
    with pytest.raises(RunError, match="is not a run directory"):
        gasp_rl.load_run(tmp_path)


def test_the_package_alone_imports_nothing_else() -> None:
    code = "import sys, gasp_rl; assert not [m for m in sys.modules if m.startswith('gasp_rl.') or m == 'msgspec']"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": "src"})


def test_the_example_of_the_documents_runs(folder: Path) -> None:
    code = "\n".join(
        re.findall(r"```python\n(.*?)```", Path("docs/notebook.md").read_text(encoding="utf-8"), re.DOTALL)
    )
    env = {**os.environ, "PYTHONPATH": str(Path("src").resolve())}

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "lemma" in done.stdout
