"""The real problem sets, which are not in the repository: run with GASP_DATA set to their folder."""

import os
from collections import Counter
from pathlib import Path

import pytest

from gasp_rl.config import LEMMA, ReadingConfig
from gasp_rl.problem import IoMode, Problem
from gasp_rl.problems.jsonl import read_problems, read_rows
from gasp_rl.problems.split import Part, Windows, by_date, cut
from gasp_rl.rollout import Axis
from gasp_rl.selfplay.prompts.chat import CHAT

pytestmark = pytest.mark.data

PROBLEMS_AND_EXCLUDED = {
    "google_contests_small.jsonl": (130, 0),
    "livecodebench_row_1873_A.json": (1, 0),
    "humaneval.jsonl": (163, 1),
    "humaneval_plus_40tests.jsonl": (163, 1),
    "leetcode.jsonl": (1664, 0),
    "livecodebench_train.jsonl": (586, 15),
    "mbpp_plus_40tests.jsonl": (372, 6),
    "mbpp_sanitized.jsonl": (424, 3),
}


@pytest.fixture
def folder() -> Path:
    assert "GASP_DATA" in os.environ, "GASP_DATA must name the folder of the problem files"
    return Path(os.environ["GASP_DATA"])


@pytest.mark.parametrize("name", PROBLEMS_AND_EXCLUDED)
def test_every_row_of_the_real_sets_is_read_or_excluded_with_a_reason(folder: Path, name: str) -> None:
    file = read_problems(folder / name)

    assert (len(file.problems), len(file.excluded)) == PROBLEMS_AND_EXCLUDED[name]
    assert all(row.reason for row in file.excluded)
    assert all(problem.statement and problem.tests for problem in file.problems)


def test_the_training_window_has_its_errata_removed(folder: Path) -> None:
    file = read_problems(folder / "livecodebench_train.jsonl")

    assert Counter(row.reason for row in file.excluded) == {
        "errata: multiple_answers": 10, "errata: erroneous_tests": 3, "errata: interactive": 2,
    }  # fmt: skip
    assert Counter(problem.io_mode for problem in file.problems)[IoMode.FUNCTIONAL] == 277 - 5
    assert max(problem.date for problem in file.problems) < "2024-08-01"


def test_a_row_as_the_hub_has_it_is_read_with_its_packed_tests(folder: Path) -> None:
    (row,) = read_rows(folder / "livecodebench_row_1873_A.json")

    assert row.form == "livecodebench"
    assert isinstance(row.found, Problem)
    assert (row.found.id, row.found.io_mode, row.found.difficulty) == ("lcb/1873_A", IoMode.STDIN, "easy")
    assert (len(row.found.public_tests), len(row.found.hidden_tests)) == (1, 4)


def test_the_development_file_is_the_papers_train_split(folder: Path) -> None:
    found = cut([folder / "livecodebench_train.jsonl"], by_date(Windows()), ReadingConfig(), None)

    assert (found.problems, found.excluded) == ({Part.TRAIN: 601}, {Part.TRAIN: 15})


def test_every_real_statement_goes_into_its_prompts_whole(folder: Path) -> None:
    for name in PROBLEMS_AND_EXCLUDED:
        for problem in read_problems(folder / name).problems:
            for prompt in (CHAT.ask_problem(problem), CHAT.teach(LEMMA, Axis.F, problem, None, 5)):
                asked = [message.content for message in prompt if message.role == "user"]
                assert problem.statement.strip() in asked[-1]
