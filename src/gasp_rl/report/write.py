"""From a run directory to its report."""

from pathlib import Path

from gasp_rl.config import RunConfig
from gasp_rl.errors import RunError
from gasp_rl.report.page import Told, page
from gasp_rl.report.story import Story
from gasp_rl.runs.directory import RunDirectory
from gasp_rl.runs.journal import read_records
from gasp_rl.runs.metrics import read_measurements


def write_report(run: RunDirectory, recipe: RunConfig | None = None) -> Path:
    """Write `report.html`, whole or not at all, and return where it is. A run that has only begun gets one too.

    `recipe`: the settings of the run's recipe, to say what was changed.
    """
    notes: list[str] = []
    story = Story()
    if run.journal.exists():
        for record in read_records(run.journal, notes):
            story.add(record)
    story.notes = tuple(notes)
    text = page(Told(story, read_measurements(run.metrics), run.root.resolve().name, recipe))

    new = run.report.with_suffix(".new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(run.report)
    except OSError as error:
        raise RunError(f"{run.report} cannot be written: {error.strerror}") from error
    return run.report
