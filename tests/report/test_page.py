import base64
import hashlib
import html
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gasp_rl.config import AzrConfig, GaspConfig, RunConfig
from gasp_rl.report.comparison import findings
from gasp_rl.report.comparison_page import comparison_page
from gasp_rl.report.page import Told, page
from gasp_rl.report.story import Story
from gasp_rl.report.write import write_report
from gasp_rl.rollout import (
    Answer,
    Evaluation,
    Iteration,
    Judgement,
    Kind,
    Pair,
    Phase,
    ProblemScore,
    Proposal,
    Rejection,
)
from gasp_rl.runs.arms import ArmResult, Written
from gasp_rl.runs.directory import create_run
from gasp_rl.runs.journal import (
    EvaluationRecord,
    GoalpostText,
    IterationRecord,
    Journal,
    JournalWriter,
    Record,
    Started,
    Stopped,
)
from gasp_rl.runs.metrics import Measurement

CONFIG = RunConfig(recipe="micro-gasp", steps=5, gasp=GaspConfig())

ATTACKS = [
    "<script>alert(1)</script>",
    "</pre></div><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "' onfocus='alert(1)' autofocus='",
    "<!-- ]]> --><style>*{display:none}</style>",
    "</title></style></script><iframe src=//example.org></iframe>",
    "<svg/onload=alert(1)>&lt;b&gt;&#60;script&#62;",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202e\u2066<b>\u0000\ud800",
    "{{ 7 * 7 }} {% raw %} ${7*7}",
]


def shown(journal: Journal, name: str, measurements: Sequence[Measurement] = ()) -> str:
    return page(Told(Story(journal.records, journal.notes), measurements, name))


def unpacked(source: str) -> dict[str, dict[str, Any]]:
    """What lies compressed in a page, by the id of its element."""
    blocks = re.findall(r'<script type="text/plain" id="([^"]+)">([A-Za-z0-9+/=]+)</script>', source)
    return {place: msgspec.json.decode(zlib.decompress(base64.b64decode(data))) for place, data in blocks}


class Reader(HTMLParser):
    """Collects elements, attributes and text; fails on an end tag that closes nothing."""

    VOID = frozenset({"meta"})

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.words: list[str] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links |= {value or "" for name, value in attrs if name in {"href", "src"}}
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self._open[-1:] in (["script"], ["style"]) else self.words).append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


KNOWN_ELEMENTS = set(
    "html head meta title style body header main footer nav section div p h1 h2 h3 h4 span a b i pre code details "
    "summary ul li dl dt dd table caption thead tbody tr th td figure figcaption svg line text rect circle polyline polygon script noscript button".split()
)


def attacked(text: str) -> Journal:
    """A run in which every text a model can reach is this one."""
    proposal = Proposal(
        text, "lemma", text, goalpost=text, parent=text, message=text, program=text, pairs=(Pair(text, text),),
        detail=text, neighbour=text, passes=5, tries=10,
    )  # fmt: skip
    rejected = replace(proposal, id=text + "2", rejection=Rejection.INVALID)
    lift = replace(proposal, id=text + "3", rung="lift", parent=text + "1")
    answers = [Answer(kind, text, text, judgement, text, 0.0) for kind in Kind for judgement in Judgement]
    score = ProblemScore(text, 10, 3, 2, text)
    records: list[Record] = [
        Started(CONFIG, "0.1", goalposts=(GoalpostText(text, text, text, text),)),
        IterationRecord(
            Iteration(1, (Phase("lemma", (replace(proposal, id=text + "1"), rejected, lift), tuple(answers)),))
        ),
        EvaluationRecord(Evaluation(1, "goalposts", 1.0, (score,))),
        EvaluationRecord(Evaluation(1, text, 1.0, (score,))),
        Stopped(text),
    ]
    return Journal(tuple(records), (text,))


@pytest.fixture(scope="session")
def compared(arms: tuple[ArmResult, ...]) -> str:
    return comparison_page(findings(arms), "compared")


@pytest.mark.parametrize("text", ATTACKS)
def test_nothing_in_the_files_of_a_comparison_becomes_markup(arms: tuple[ArmResult, ...], text: str) -> None:
    hostile = [
        msgspec.structs.replace(
            result, arm=text + result.arm, package=text, commit=text, machine=text + str(result.seed),
            written=(Written(text, 10, 10, ()),),
            points=tuple(msgspec.structs.replace(p, goalposts=tuple(msgspec.structs.replace(s, problem=text + s.problem) for s in p.goalposts))
                         for p in result.points),
        )
        for result in arms[:4]
    ]  # fmt: skip

    found = Reader(comparison_page(findings(hostile), text))

    assert found.elements <= KNOWN_ELEMENTS
    assert not {name for name in found.attributes if name.startswith("on")}
    assert all(link.startswith("#") for link in found.links)
    assert not any(c in found.text for c in "\x1b\x07\x00\u202e\ud800")


def test_a_comparison_asks_nothing_of_the_network_and_its_links_lead_somewhere(compared: str) -> None:
    found = Reader(compared)

    assert not re.search(r"<script[^>]+src|<link|url\(|@import|https?://(?!www\.w3\.org/2000/svg)| style=", compared)
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert "connect-src" not in compared


def test_a_comparison_shows_every_arm_in_its_tables_and_charts(compared: str, arms: tuple[ArmResult, ...]) -> None:
    charts = re.findall(r'<svg viewBox="0 0 360 200".*?</svg>', compared, re.DOTALL)

    assert len(charts) == 6
    for name in {result.arm for result in arms} - {"gasp"}:
        assert all(f">{name}</text>" in chart for chart in charts)
    assert all(chart.count('class="part ') == len(arms) for chart in charts[:5])
    assert charts[5].count('class="band ') == 3


def test_arms_are_told_apart_by_colour_and_by_dashes(
    make_comparison: Callable[..., tuple[ArmResult, ...]],
) -> None:
    every = {"gasp": 1, "azr": 1, "random-reward": 1, "rlvr": 1, "gasp-rlvr": 1, "no-io-axis": 1, "untrained": 1}

    source = comparison_page(findings(make_comparison(every, problems=5)), "seven")

    legend = re.findall(r'<ul class="legend">.*?</ul>', source, re.DOTALL)[0]
    swatches = re.findall(r'class="curve ([^"]*)"', legend)
    assert len(swatches) == len(set(swatches)) == 7


@pytest.mark.parametrize("text", ATTACKS)
def test_nothing_a_model_writes_becomes_markup(text: str) -> None:
    found = Reader(shown(attacked(text), text))

    assert found.elements <= KNOWN_ELEMENTS
    assert not {name for name in found.attributes if name.startswith("on")}
    assert all(link.startswith("#") for link in found.links)
    assert not any(c in found.text for c in "\x1b\x07\x00\u202e\ud800")


def test_a_page_asks_nothing_of_the_network(run: Journal) -> None:
    source = shown(run, "demo")

    assert not re.search(r"<script[^>]+src|<link|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", source)
    assert "connect-src" not in source


def test_its_policy_allows_the_one_script_and_the_one_sheet_by_their_hashes(run: Journal) -> None:
    source = shown(run, "demo")
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]+)"', source)[0])
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind in ("script", "style")
        for text in re.findall(rf"<{kind}>(.*?)</{kind}>", source, re.DOTALL)
    ]

    assert policy == (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; base-uri 'none'; "
        "form-action 'none'"
    )
    assert len(hashes) == 2
    assert not re.search(r" style=|eval\(|innerHTML = |document\.write", source)


def test_every_link_leads_somewhere_and_ids_are_unique(run: Journal) -> None:
    found = Reader(shown(run, "demo"))

    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))


def test_it_opens_with_what_fell_and_what_the_base_model_did(run: Journal) -> None:
    text = Reader(shown(run, "demo", [Measurement(1, "lemma", 272.0)])).text

    assert "After 20 iterations of micro-gasp the student has solved 3 of 16 goalposts." in text
    assert "The base model, given the same 128 draws each, solved 1 (paired exact test: p = 0.5" in text
    assert "4 min 32 s" in text


def test_it_says_what_each_phase_cost_and_what_each_thing_came_to(run: Journal) -> None:
    measured = [Measurement(1, "lemma", 272.0, 90_000, sampling_seconds=200.0, update_seconds=30.0)]

    text = Reader(shown(run, "demo", measured)).text
    cost = text[text.index("What it cost") :]

    assert re.search(r"lemma\W+90,000\W+4 min 32 s\W+3 min 20 s\W+30 s\W+–", cost)
    assert re.search(r"per accepted lemma \([0-9]+\)", cost)
    assert re.search(r"per goalpost solved \(3\)\W+30,000\W+1 min 31 s", cost)


def test_a_lemma_and_its_lift_are_packed_with_their_goalpost(run: Journal) -> None:
    packs = unpacked(shown(run, "demo"))
    first = packs["index"]["goalposts"][0]
    cards = packs["pack-0"]["cards"]
    lift = next(card for card in cards if card["rung"] == "lift" and "why" not in card)
    lemma = next(card for card in cards if card["id"] == lift["parent"])

    assert first["solves"] > 0
    assert lemma["parent"] == first["id"]
    assert cards.index(lemma) < cards.index(lift)
    assert lemma["program"].startswith("def f(x):")
    assert (len(lemma["pairs"]), lemma["tries"]) == (5, 10)
    assert packs["pack-0"]["history"][0][0] == 0


def test_rejected_siblings_are_packed_with_their_reasons(run: Journal) -> None:
    packs = unpacked(shown(run, "demo"))
    places = range(len(packs["index"]["goalposts"]))
    rejected = [card for place in places for card in packs[f"pack-{place}"]["cards"] if "why" in card]
    counted = sum(sum(g.get("why", {}).values()) for g in packs["index"]["goalposts"])

    assert {card["why"] for card in rejected} == {
        "malformed", "invalid", "nondeterministic", "duplicate", "too_hard", "too_easy"
    }  # fmt: skip
    assert counted == sum(p.rejection is not None for i in run.iterations for ph in i.phases for p in ph.proposals)
    assert counted == len(rejected) + sum(g.get("left_out", 0) for g in packs["index"]["goalposts"])


@pytest.mark.parametrize("text", ATTACKS)
def test_what_is_packed_is_inert_too(text: str) -> None:
    packs = unpacked(shown(attacked(text), text))

    assert not any(c in str(packs) for c in "\x1b\x07\x00\u202e\ud800")


@pytest.mark.parametrize("records", range(8))
def test_a_run_cut_after_any_record_still_has_a_report(run: Journal, records: int) -> None:
    Reader(shown(Journal(run.records[:records]), "cut"))


def test_an_empty_journal_says_so() -> None:
    text = Reader(shown(Journal(), "new")).text

    assert "This run has not begun: its journal is empty." in text
    assert "Nothing has been proposed yet." in text


def test_a_stopped_run_says_why() -> None:
    journal = Journal((Started(CONFIG, "0.1"), IterationRecord(Iteration(1, ())), Stopped("interrupted")))

    text = Reader(shown(journal, "halted")).text

    assert "stopped: interrupted" in text
    assert "1 of 5 iterations of micro-gasp are done; its goalposts have not been evaluated" in text


def test_free_proposals_are_shown_where_there_are_no_goalposts() -> None:
    proposal = Proposal("a", "deduction", "…", program="def f(x): return x + 41", passes=4, tries=8)
    started = Started(RunConfig(recipe="azr", azr=AzrConfig()), "0.1")

    packs = unpacked(shown(Journal((started, IterationRecord(Iteration(1, (Phase("d", (proposal,)),))))), "azr"))

    assert packs["index"]["goalposts"][0]["id"] == "deduction proposals"
    assert packs["pack-0"]["cards"][0]["program"] == "def f(x): return x + 41"


@pytest.mark.slow
def test_two_hundred_iterations_stay_under_five_megabytes_and_say_what_is_left_out(
    make_run: Callable[..., Journal],
) -> None:
    source = shown(make_run(steps=200, goalposts=1500, tries=10), "long")

    assert len(source.encode()) < 5_000_000
    assert re.search(r"[\d,]+ proposals of [\d,]+ are counted but left out to keep this page small", source)


def test_one_endless_line_does_not_swell_the_page() -> None:
    assert len(shown(attacked("x" * 1_000_000), "long")) < 500_000


def test_the_report_is_written_into_the_run(tmp_path: Path, run: Journal) -> None:
    directory = create_run(tmp_path / "run", CONFIG)
    with JournalWriter(directory.journal) as journal:
        for record in run.records[:6]:
            journal.append(record)

    path = write_report(directory)

    assert path == tmp_path / "run" / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not list(tmp_path.glob("**/*.new"))
