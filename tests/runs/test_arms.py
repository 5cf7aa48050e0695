"""Finished arms on disk: whole, readable, and only together where they may be compared."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from gasp_rl.config import Matched
from gasp_rl.errors import InputError
from gasp_rl.recipes import RECIPES
from gasp_rl.rollout import Iteration, Phase, Proposal, Rejection
from gasp_rl.runs.arms import (
    SCHEMA,
    ArmResult,
    Chosen,
    Lost,
    Point,
    Score,
    Terms,
    Written,
    read_comparison,
    read_result,
    write_result,
    written,
)

TERMS = Terms(
    Matched.TOKENS, 1000.0, 2, 20, 40, (1, 20), 1.0, 200, 1.5e-4, model="m", prompts="p", goalposts="g", validation="v",
    test="t", train="r",
)  # fmt: skip
SCORES = (Score("a", 20, 3, 3), Score("b", 20, 0, 0))


def result(arm: str = "gasp", seed: int = 1, terms: Terms = TERMS) -> ArmResult:
    points = (Point(3, 480, 1.5, SCORES, SCORES), Point(6, 1010, 3.0, SCORES, SCORES))
    config = RECIPES[f"micro-{arm}"]()
    return ArmResult(
        SCHEMA, arm, seed, terms, replace(config, seed=seed), "0.1.0", "abc", "a machine", 6, points,
        (Chosen(6, (1, 20), SCORES),), (Written("lemma", 9, 2, (Lost(Rejection.TOO_HARD, 7),)),),
        training_tokens=1010, training_seconds=3.0, tokens=5000, seconds=9.5,
    )  # fmt: skip


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = write_result(tmp_path, result())

    assert path.name == "gasp-seed1.arm.json"
    assert read_result(path) == result()
    assert result().draws == 40


def test_files_from_several_folders_make_one_comparison_in_a_fixed_order(tmp_path: Path) -> None:
    for folder, arm, seed in (("one", "gasp", 10), ("one", "azr", 1), ("two", "gasp", 2)):
        (tmp_path / folder).mkdir(exist_ok=True)
        write_result(tmp_path / folder, result(arm, seed))
    for path in (tmp_path / "two").iterdir():
        path.rename(tmp_path / "one" / path.name)

    assert [(one.arm, one.seed) for one in read_comparison(tmp_path / "one")] == [("azr", 1), ("gasp", 2), ("gasp", 10)]
    assert read_comparison(tmp_path / "nowhere") == ()


def test_arms_on_other_terms_are_refused_with_what_differs(tmp_path: Path) -> None:
    write_result(tmp_path, result("azr"))
    write_result(tmp_path, result("gasp", terms=replace(TERMS, budget=2000.0, test="u")))

    with pytest.raises(InputError, match=r"gasp-seed1.* azr of seed 1.*budget: 1000.0 -> 2000.0; test: t -> u"):
        read_comparison(tmp_path)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "holds no finished arm of gasp compare"),
        (b'{"schema": 1}', "holds no finished arm of gasp compare: .*missing required field"),
        (msgspec.json.encode(msgspec.structs.replace(result(), schema=99)), "has schema 99, this gasp-rl reads 1"),
    ],
)
def test_what_is_no_result_is_named(tmp_path: Path, content: bytes, line: str) -> None:
    path = tmp_path / "gasp-seed1.arm.json"
    path.write_bytes(content)

    with pytest.raises(InputError, match=line):
        read_comparison(tmp_path)


def test_a_world_is_another_when_any_of_its_problems_is() -> None:
    assert TERMS.world == replace(TERMS, model="n", budget=5.0).world
    others = [
        replace(TERMS, goalposts="x"),
        replace(TERMS, train="x"),
        replace(TERMS, validation="x"),
        replace(TERMS, test="x"),
    ]
    assert len({terms.world for terms in (TERMS, *others)}) == 5


def test_proposals_are_counted_by_rung_and_by_what_stopped_them() -> None:
    lemmas = tuple(
        Proposal(str(place), "lemma", "", rejection=rejection)
        for place, rejection in enumerate([None, Rejection.DUPLICATE, Rejection.TOO_HARD, Rejection.DUPLICATE])
    )
    lifts = (Proposal("l", "lift", ""),)
    iterations = [Iteration(step, (Phase("lemma", lemmas), Phase("lift", lifts))) for step in (1, 2)]

    assert written(iterations) == (
        Written("lemma", 8, 2, (Lost(Rejection.DUPLICATE, 4), Lost(Rejection.TOO_HARD, 2))),
        Written("lift", 2, 2, ()),
    )
