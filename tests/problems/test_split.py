"""The split by date: half-open windows, nothing lost, nothing counted twice, nothing half written."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.config import ReadingConfig
from gasp_rl.errors import ConfigError, ProblemFileError
from gasp_rl.problems.jsonl import read_problems
from gasp_rl.problems.split import Cut, Part, Windows, by_date, cut, in_words, to_json


def row(name: str, date: str = "", **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "statement": "?",
        "public_tests": [],
        "hidden_tests": [{"input": "1", "output": "1"}],
        "date": date,
    } | more


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize(("date", "part"), [
    ("2023-05-07", Part.TRAIN),
    ("2024-07-31T23:59:59", Part.TRAIN), ("2024-08-01T00:00:00", Part.VALIDATION), ("2024-08-01", Part.VALIDATION),
    ("2024-08-01T00:00:01", Part.VALIDATION),
    ("2024-09-30T23:59:59", Part.VALIDATION), ("2024-10-01T00:00:00", Part.TEST), ("2024-10-01T00:00:01", Part.TEST),
    ("2025-02-28T23:59:59", Part.TEST), ("2025-03-01T00:00:00", Part.LATER), ("2025-03-01T00:00:01", Part.LATER),
    ("2024-08-01T00:59:59+01:00", Part.TRAIN), ("2024-07-31T23:00:00-01:00", Part.VALIDATION),
    ("2024-08-01T00:00:00Z", Part.VALIDATION), ("", Part.UNDATED),
])  # fmt: skip
def test_a_window_holds_its_first_instant_and_not_its_last(tmp_path: Path, date: str, part: Part) -> None:
    file = write(tmp_path / "edge.jsonl", row("a", date))

    found = cut([file], by_date(Windows()), ReadingConfig(), None)

    assert found.problems == {part: 1}


dates = st.datetimes().map(lambda when: when.isoformat())


@given(dates, dates, dates, dates)
def test_every_instant_is_in_one_part_and_parts_follow_each_other(a: str, b: str, c: str, date: str) -> None:
    first, second, third = sorted((a, b, c))

    part = Windows(first, second, third).part(date)

    order = [Part.TRAIN, Part.VALIDATION, Part.TEST, Part.LATER]
    assert order.index(part) == sum(date >= edge for edge in (first, second, third))


def test_windows_that_overlap_are_refused() -> None:
    with pytest.raises(ConfigError, match="test-until must be 2024-10-01 or later, got '2024-09-01'"):
        Windows(test_until="2024-09-01")


def test_parts_are_written_and_what_is_left_out_or_later_is_counted(tmp_path: Path) -> None:
    file = write(
        tmp_path / "all.jsonl",
        row("old", "2024-07-01"), row("test", "2025-01-01"), row("late", "2025-04-01"), row("undated"),
        row("untested", "2024-07-02", hidden_tests=[]),
    )  # fmt: skip

    found = cut([file], by_date(Windows()), ReadingConfig(), tmp_path / "parts")

    assert found.problems == {Part.TRAIN: 2, Part.TEST: 1, Part.LATER: 1, Part.UNDATED: 1}
    assert found.excluded == {Part.TRAIN: 1}
    names = {path.name: [p.id for p in read_problems(path).problems] for path in (tmp_path / "parts").iterdir()}
    assert names == {"train.jsonl": ["old"], "test.jsonl": ["test"]}


def test_several_files_are_cut_as_one_and_may_not_share_an_id(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1.jsonl", row("a", "2024-07-01")), write(tmp_path / "2.jsonl", row("b", "2024-07-01"))

    assert cut([one, two], by_date(Windows()), ReadingConfig(), None).problems == {Part.TRAIN: 2}
    with pytest.raises(ProblemFileError, match=r"2\.jsonl:1: id: 'b' is in .*2\.jsonl already"):
        cut([two, two], by_date(Windows()), ReadingConfig(), None)


def test_a_malformed_row_stops_a_split_before_any_part_has_its_name(tmp_path: Path) -> None:
    file = write(tmp_path / "all.jsonl", row("a", "2024-07-01"), row("b", "soon"))

    with pytest.raises(ProblemFileError, match=r"all\.jsonl:2: date: must be like 2024-08-01"):
        cut([file], by_date(Windows()), ReadingConfig(), tmp_path / "parts")

    assert list((tmp_path / "parts").iterdir()) == []
    found = cut([file], by_date(Windows()), ReadingConfig(skip_malformed=True), tmp_path / "parts")
    assert found.problems == {Part.TRAIN: 1}
    assert "malformed  " in in_words(found, Windows(), None)
    assert json.loads(to_json(found, Windows()))["malformed"] == 1


def test_the_published_counts_are_compared_in_the_papers_windows_only() -> None:
    found = Cut()
    found.problems.update({Part.TRAIN: 601, Part.TEST: 215})

    said = in_words(found, Windows(), None)

    assert "601  as many as the 601 of the paper" in said
    assert "215  unlike the 216 of the paper" in said
    assert "paper" not in in_words(found, Windows(validation_from="2024-07-01"), None)
    assert json.loads(to_json(found, Windows()))["published"] == {"train": 601, "test": 216}
    assert json.loads(to_json(found, None))["published"] is None
