"""The problem sets of a run: which rows are used is the user's choice, and what is not used is said."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gasp_rl.build import load_problems
from gasp_rl.config import AzrConfig, EvaluateConfig, ProblemsConfig, ReadingConfig, RlvrConfig, RunConfig
from gasp_rl.errors import ProblemFileError
from gasp_rl.problem import Problem, TestCase
from gasp_rl.problems.jsonl import write_problems
from gasp_rl.progress import Silent

SKIP = ReadingConfig(skip_malformed=True)


@dataclass
class Notes(Silent):
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)


def problems(path: Path, names: str, *, malformed: bool = False) -> str:
    write_problems(path, [Problem(name, name, (TestCase("1", "1"),), (TestCase("2", "2"),)) for name in names])
    if malformed:
        path.write_text('{"id": 1, "public_tests": []}\n' + path.read_text() + "{}\n")
    return str(path)


def run_on(folder: Path, reading: ReadingConfig, *, malformed: bool = True) -> RunConfig:
    named = ProblemsConfig(
        train=problems(folder / "train.jsonl", "ab", malformed=malformed),
        validation=problems(folder / "validation.jsonl", "cd"),
        held_out=problems(folder / "test.jsonl", "e"),
        reading=reading,
    )
    return RunConfig(recipe="rlvr", rlvr=RlvrConfig(), problems=named)


def test_a_malformed_row_stops_a_run_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(ProblemFileError, match=r"train\.jsonl:1: id: Expected `str`, got `int`"):
        load_problems(run_on(tmp_path, ReadingConfig()), Silent())


def test_malformed_rows_that_are_skipped_are_said(tmp_path: Path) -> None:
    notes = Notes()

    sets = load_problems(run_on(tmp_path, SKIP), notes)

    assert [problem.id for problem in sets.train] == ["a", "b"]
    assert notes.notes == [
        f"{tmp_path}/train.jsonl: 2 malformed rows left out, first line 1: id: Expected `str`, got `int`"
    ]


def test_generated_tasks_must_keep_clear_of_all_that_measures_the_model(tmp_path: Path) -> None:
    config = replace(
        run_on(tmp_path, SKIP, malformed=False), azr=AzrConfig(), rlvr=None,
        evaluate=EvaluateConfig(validation_problems=1),
    )  # fmt: skip

    sets = load_problems(config, Silent())

    assert [problem.id for problem in sets.validation] == ["c"]
    assert [problem.id for problem in sets.held_out] == ["c", "d", "e"]


def test_without_generated_tasks_nothing_is_held_out(tmp_path: Path) -> None:
    assert load_problems(run_on(tmp_path, SKIP, malformed=False), Silent()).held_out == ()
