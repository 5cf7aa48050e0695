"""The report in a real browser: nothing a model wrote runs, and no screen is too narrow for it."""

import html
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gasp_rl.config import GaspConfig, RunConfig
from gasp_rl.report.page import page
from gasp_rl.rollout import Iteration, Phase, Proposal
from gasp_rl.runs.journal import GoalpostText, IterationRecord, Journal, Started

pytestmark = pytest.mark.browser

MEASURE = """<!doctype html><meta charset="utf-8"><body><iframe width="{width}" height="900" srcdoc="{page}"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const inside = frame.contentDocument;
  for (const folded of inside.querySelectorAll("details")) folded.open = true;
  document.body.dataset.wide = [...inside.querySelectorAll("body *")]
    .filter(e => e.scrollWidth > 0 && e.getBoundingClientRect().right > inside.documentElement.clientWidth + 1)
    .filter(e => !e.closest(".scroll") && !e.closest("svg") && !e.closest("pre"))
    .map(e => e.tagName + "." + e.className).join(" ");
  document.body.dataset.overflow = inside.documentElement.scrollWidth - inside.documentElement.clientWidth;
  document.body.dataset.owned = String(window.owned ?? "no");
  document.body.dataset.title = inside.title;
}};
</script>"""


@pytest.fixture
def look(tmp_path: Path) -> Callable[[str, int], str]:
    """Shows a page in a frame of so many pixels and returns what a script outside it saw."""
    browser = shutil.which("chromium")
    assert browser, "make test-browser needs chromium on the PATH"

    def shown(source: str, width: int) -> str:
        outer = tmp_path / "outer.html"
        outer.write_text(MEASURE.format(width=width, page=html.escape(source)), encoding="utf-8")
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
                   "--virtual-time-budget=5000", "--dump-dom", outer.as_uri()]  # fmt: skip
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    return shown


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_with_everything_unfolded_nothing_is_wider_than_the_screen(
    look: Callable[[str, int], str], run: Journal, width: int
) -> None:
    seen = look(page(run, [], "demo"), width)

    assert 'data-overflow="0"' in seen
    assert 'data-wide=""' in seen


def test_hostile_text_neither_runs_nor_widens_the_page(look: Callable[[str, int], str]) -> None:
    attack = (
        "<script>parent.owned = 'yes'</script><img src=x onerror=\"parent.owned='yes'\">"
        "</pre></style></title><svg onload=\"parent.owned='yes'\">" + "W" * 3000
    )
    proposal = Proposal("a", "lemma", attack, goalpost=attack, parent=attack, message=attack, program=attack)
    started = Started(RunConfig(recipe="x", gasp=GaspConfig()), "0.1", goalposts=(GoalpostText(attack, attack),))
    journal = Journal((started, IterationRecord(Iteration(1, (Phase("lemma", (proposal,)),)))), (attack,))

    seen = look(page(journal, [], attack), 360)

    assert 'data-owned="no"' in seen
    assert 'data-overflow="0"' in seen
