"""The report in a real browser: nothing a model wrote runs, and no screen is too narrow for it."""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from gasp_rl.config import AzrConfig, GaspConfig, RunConfig
from gasp_rl.report.comparison import findings
from gasp_rl.report.comparison_page import comparison_page
from gasp_rl.report.page import Told, page
from gasp_rl.report.story import Story
from gasp_rl.rollout import Axis, Iteration, Pair, Phase, Proposal, Rejection
from gasp_rl.runs.arms import ArmResult
from gasp_rl.runs.journal import GoalpostText, IterationRecord, Journal, Started

pytestmark = pytest.mark.browser


def shown(journal: Journal) -> str:
    return page(Told(Story(journal.records, journal.notes), name="demo"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "make test-browser needs chromium on the PATH"
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens a page from disk. Complaints on its console, and requests for anything else, fail the test."""
    seen: list[str] = []
    contexts: list[BrowserContext] = []

    def opened(source: str, width: int = 1280, ready: str = "#view .head, #ladder-view .empty") -> Page:
        file = tmp_path / "report.html"
        file.write_text(source, encoding="utf-8")
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme="light"))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: seen.append(message.text))
        tab.on("pageerror", lambda error: seen.append(str(error)))
        tab.on("dialog", lambda dialog: seen.append(dialog.message))
        tab.on("request", lambda request: None if request.url.startswith(file.as_uri()) else seen.append(request.url))
        tab.goto(file.as_uri())
        tab.wait_for_selector(ready)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert seen == []


def widest(tab: Page) -> list[str]:
    """What stands out over the right edge with everything unfolded, but for what scrolls in a box of its own."""
    tab.evaluate("for (const folded of document.querySelectorAll('details')) folded.open = true")
    tab.wait_for_timeout(100)
    assert tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    return list(
        tab.evaluate("""[...document.querySelectorAll("body *")]
    .filter(e => e.scrollWidth > 0 && e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .filter(e => !e.closest(".scroll") && !e.closest("svg") && !e.closest("pre"))
    .map(e => e.tagName + "." + e.className)""")
    )


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_with_everything_unfolded_nothing_is_wider_than_the_screen(
    visit: Callable[..., Page], run: Journal, width: int
) -> None:
    assert widest(visit(shown(run), width)) == []


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_comparison_is_wider_than_the_screen(
    visit: Callable[..., Page], arms: tuple[ArmResult, ...], width: int
) -> None:
    tab = visit(comparison_page(findings(arms), "compared"), width, "footer")

    assert widest(tab) == []
    clipped = """[...document.querySelectorAll(".chart > svg")].filter(svg => [...svg.querySelectorAll("text")]
    .some(text => { const box = text.getBBox(); return box.x < 0 || box.x + box.width > svg.viewBox.baseVal.width; })).length"""
    assert tab.evaluate(clipped) == 0


def test_a_goalpost_that_fell_is_followed_down_its_ladder(visit: Callable[..., Page], run: Journal) -> None:
    tab = visit(shown(run))
    fallen = tab.locator(".list button", has_text="fell at").first
    name = fallen.locator(".id").inner_text()
    fallen.click()

    expect(tab.locator("#shown")).to_have_text(name)
    assert tab.locator(".stage.goal .message").inner_text()
    assert tab.locator(".axis .chip").first.inner_text().lower().startswith("axis ")
    lemma = tab.locator(".tree > li > .card.c1").first
    assert lemma.locator(".rung").first.inner_text() == "lemma"
    assert lemma.locator("pre.program .t-keyword").first.inner_text() == "def"
    assert lemma.locator(".pairs tbody tr").count() == 5
    assert "of 10" in lemma.locator(".rate").first.inner_text()
    lift = tab.locator(".tree ul .card.c2").first
    assert "reward" in lift.locator("dl.facts").inner_text()
    assert tab.locator("details.rejected summary").first.inner_text().split()[1] == "rejected"
    assert tab.locator(".stage.solved .chip").inner_text().lower() == "first solve"


def test_a_dot_of_the_timeline_opens_its_proposal_by_the_keyboard(visit: Callable[..., Page], run: Journal) -> None:
    tab = visit(shown(run))
    dot = tab.locator(".timeline .pick").last
    dot.focus()
    tab.keyboard.press("Enter")

    tab.wait_for_function("document.activeElement.closest('details.card')?.open")


def test_filters_leave_what_fits_them(visit: Callable[..., Page], run: Journal) -> None:
    tab = visit(shown(run))
    tab.select_option("#filter-solved", "no")
    expect(tab.locator("#found")).to_contain_text(" of 16 goalposts")

    assert tab.locator(".list button", has_text="fell at").count() == 0
    expect(tab.locator("#found")).to_have_text(f"{tab.locator('.list button').count()} of 16 goalposts")

    tab.select_option("#filter-axis", "io")
    tab.select_option("#filter-why", "too_hard")
    expect(tab.locator(".axis .chip")).to_have_text(["axis io"])
    tab.wait_for_function("[...document.querySelectorAll('.badge.why')].every(b => b.textContent === 'too hard')")
    assert set(tab.locator(".badge.why").all_inner_texts()) == {"too hard"}


def test_search_finds_words_in_programs_that_are_packed(visit: Callable[..., Page], run: Journal) -> None:
    tab = visit(shown(run))
    tab.fill("#filter-words", "dict.fromkeys")
    tab.wait_for_selector("#view .card[open] pre.program:has-text('dict.fromkeys')")

    tab.fill("#filter-words", "no such words anywhere")
    tab.wait_for_selector("#view .empty")
    assert tab.locator("#found").inner_text() == "0 of 16 goalposts"


def test_the_switch_changes_between_light_and_dark(visit: Callable[..., Page], run: Journal) -> None:
    tab = visit(shown(run))
    paper = "getComputedStyle(document.body).backgroundColor"
    before = tab.evaluate(paper)
    tab.click("#theme")
    assert tab.evaluate(paper) == before
    tab.click("#theme")

    assert tab.evaluate(paper) != before
    assert "dark" in tab.locator("#theme").inner_text()


def test_the_list_is_walked_with_the_keyboard_alone(visit: Callable[..., Page], run: Journal) -> None:
    tab = visit(shown(run))
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.id") == "filter-words"
    tab.locator(".list button").first.focus()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")

    second = tab.locator(".list button .id").nth(1).inner_text()
    expect(tab.locator("#shown")).to_have_text(second)
    expect(tab).to_have_url(re.compile(f"{quote(second, safe='')}$"))


def test_free_proposals_can_be_looked_at_too(visit: Callable[..., Page]) -> None:
    proposal = Proposal("a", "deduction", "…", program="def f(x): return x + 41", passes=4, tries=8)
    started = Started(RunConfig(recipe="azr", azr=AzrConfig()), "0.1")

    tab = visit(shown(Journal((started, IterationRecord(Iteration(1, (Phase("d", (proposal,)),)))))))

    assert tab.locator("#shown").inner_text() == "deduction proposals"
    assert "x + 41" in tab.locator("pre.program").first.inner_text()


def test_an_empty_run_says_so(visit: Callable[..., Page]) -> None:
    assert visit(shown(Journal())).locator("#ladder-view").inner_text() == "Nothing has been proposed yet."


def test_hostile_text_neither_runs_nor_widens_the_page(visit: Callable[..., Page]) -> None:
    attack = (
        "<script>alert('owned')</script><img src=x onerror=\"alert('owned')\">"
        "</pre></style></title><svg onload=\"alert('owned')\">\x1b[31m\u202e${alert(1)}" + "W" * 3000
    )
    proposal = Proposal(
        "a", "lemma", attack, Axis.F, goalpost=attack, parent=attack, message=attack, program=attack, detail=attack,
        pairs=(Pair(attack, attack),), passes=5, tries=10, neighbour=attack,
    )  # fmt: skip
    rejected = replace(proposal, id="b", rejection=Rejection.INVALID)
    unread = replace(rejected, id="c", message="", program="", rejection=Rejection.MALFORMED)
    started = Started(RunConfig(recipe="x", gasp=GaspConfig()), "0.1", goalposts=(GoalpostText(attack, attack),))
    journal = Journal(
        (started, IterationRecord(Iteration(1, (Phase("lemma", (proposal, rejected, unread)),)))), (attack,)
    )

    tab = visit(page(Told(Story(journal.records, journal.notes), name=attack)), 360)

    assert widest(tab) == []
    assert tab.locator("#view .card").count() == 3
    assert tab.locator("img, svg[onload], #view script").count() == 0
    assert "<script>alert('owned')</script>" in tab.locator(".card .message").first.inner_text()
