"""From a run directory to its report."""

from pathlib import Path

from gasp_rl.errors import RunError
from gasp_rl.report.page import page
from gasp_rl.runs.directory import RunDirectory
from gasp_rl.runs.journal import Journal, read_journal
from gasp_rl.runs.metrics import read_measurements


def write_report(run: RunDirectory) -> Path:
    """Write `report.html`, whole or not at all, and return where it is. A run that has only begun gets one too."""
    journal = read_journal(run.journal) if run.journal.exists() else Journal()
    text = page(journal, read_measurements(run.metrics), run.root.resolve().name)

    new = run.report.with_suffix(".new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(run.report)
    except OSError as error:
        raise RunError(f"{run.report} cannot be written: {error.strerror}") from error
    return run.report
