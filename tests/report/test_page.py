import html
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gasp_rl.config import AzrConfig, GaspConfig, RunConfig
from gasp_rl.report.page import page
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
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


KNOWN_ELEMENTS = set(
    "html head meta title style body header main footer nav section div p h1 h2 h3 h4 span a b i pre code details "
    "summary table caption thead tbody tr th td figure figcaption ol li svg line text rect circle polyline".split()
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


@pytest.mark.parametrize("text", ATTACKS)
def test_nothing_a_model_writes_becomes_markup(text: str) -> None:
    found = Reader(page(attacked(text), [], text))

    assert found.elements <= KNOWN_ELEMENTS
    assert not {name for name in found.attributes if name.startswith("on")}
    assert all(link.startswith("#") for link in found.links)
    assert not any(c in found.text for c in "\x1b\x07\x00\u202e\ud800")


def test_a_page_needs_no_script_and_no_network(run: Journal) -> None:
    source = page(run, [], "demo")

    assert "<script" not in source
    assert not re.search(r"https?://|url\(|@import", source)
    assert "default-src 'none'" in html.unescape(source)


def test_every_link_leads_somewhere_and_ids_are_unique(run: Journal) -> None:
    found = Reader(page(run, [], "demo"))

    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))


def test_it_opens_with_what_fell_and_what_the_base_model_did(run: Journal) -> None:
    text = Reader(page(run, [Measurement(1, "lemma", 272.0)], "demo")).text

    assert "After 20 iterations of micro-gasp the student has solved 3 of 16 goalposts." in text
    assert "The base model, given the same 128 draws each, solved 1 (paired exact test: p = 0.5" in text
    assert "4 min 32 s" in text


def test_it_says_what_each_phase_cost_and_what_each_thing_came_to(run: Journal) -> None:
    measured = [Measurement(1, "lemma", 272.0, 90_000, sampling_seconds=200.0, update_seconds=30.0)]

    text = Reader(page(run, measured, "demo")).text
    cost = text[text.index("What it cost") :]

    assert re.search(r"lemma\W+90,000\W+4 min 32 s\W+3 min 20 s\W+30 s\W+–", cost)
    assert re.search(r"per accepted lemma \([0-9]+\)", cost)
    assert re.search(r"per goalpost solved \(3\)\W+30,000\W+1 min 31 s", cost)


def test_a_lemma_stands_below_its_goalpost_and_its_lift_below_it(run: Journal) -> None:
    text = Reader(page(run, [], "demo")).text
    ladders = text[text.index("What the teacher made of each goalpost") :]

    assert ladders.index("Goalpost ") < ladders.index("Lemma ") < ladders.index("Lift ")
    assert re.search(r"solved\s+5 of 10 times · reward \+1\.00", ladders)


@pytest.mark.parametrize("records", range(8))
def test_a_run_cut_after_any_record_still_has_a_report(run: Journal, records: int) -> None:
    Reader(page(Journal(run.records[:records]), [], "cut"))


def test_an_empty_journal_says_so() -> None:
    text = Reader(page(Journal(), [], "new")).text

    assert "This run has not begun: its journal is empty." in text
    assert "Nothing has been proposed yet." in text


def test_a_stopped_run_says_why() -> None:
    journal = Journal((Started(CONFIG, "0.1"), IterationRecord(Iteration(1, ())), Stopped("interrupted")))

    text = Reader(page(journal, [], "halted")).text

    assert "stopped: interrupted" in text
    assert "1 of 5 iterations of micro-gasp are done; its goalposts have not been evaluated" in text


def test_free_proposals_are_shown_where_there_are_no_goalposts() -> None:
    proposal = Proposal("a", "deduction", "…", program="def f(x): return x + 41", passes=4, tries=8)
    started = Started(RunConfig(recipe="azr", azr=AzrConfig()), "0.1")

    text = Reader(page(Journal((started, IterationRecord(Iteration(1, (Phase("d", (proposal,)),))))), [], "azr")).text

    assert "def f(x): return x + 41" in text


@pytest.mark.slow
def test_two_hundred_iterations_stay_under_five_megabytes_and_say_what_is_left_out(
    make_run: Callable[..., Journal],
) -> None:
    source = page(make_run(steps=200, goalposts=1500, tries=10), [], "long")

    assert len(source.encode()) < 5_000_000
    assert re.search(r"[\d,]+ more goalposts left out to keep this page small", source)


def test_one_endless_line_does_not_swell_the_page() -> None:
    assert len(page(attacked("x" * 1_000_000), [], "long")) < 500_000


def test_the_report_is_written_into_the_run(tmp_path: Path, run: Journal) -> None:
    directory = create_run(tmp_path / "run", CONFIG)
    with JournalWriter(directory.journal) as journal:
        for record in run.records[:6]:
            journal.append(record)

    path = write_report(directory)

    assert path == tmp_path / "run" / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not list(tmp_path.glob("**/*.new"))
