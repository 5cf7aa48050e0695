"""Every recipe, all of its settings. What changes here changes what users run: `make golden` writes it down again."""

import re
from pathlib import Path

import msgspec
import pytest

from gasp_rl.config import RunConfig
from gasp_rl.recipes import RECIPES
from gasp_rl.runs.differences import differences
from gasp_rl.runs.directory import encode_config, read_config

GOLDEN = Path(__file__).parent / "golden" / "recipes"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_resolves_to_the_settings_that_were_written_down(name: str) -> None:
    assert encode_config(RECIPES[name]()).decode() == (GOLDEN / f"{name}.json").read_text()


@pytest.mark.parametrize("name", RECIPES)
def test_settings_are_read_back_as_they_were_written(name: str) -> None:
    assert read_config(GOLDEN / f"{name}.json") == RECIPES[name]()


def test_nothing_is_written_down_that_is_no_recipe() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_called_what_it_is_asked_for_by(name: str) -> None:
    assert RECIPES[name]().recipe == name


ARMS = [name for name in RECIPES if f"micro-{name}" in RECIPES]


@pytest.mark.parametrize("size", ["", "micro-"])
def test_the_arms_of_a_comparison_differ_only_in_the_way_they_play(size: str) -> None:
    def shared(config: RunConfig) -> tuple[object, ...]:
        return config.model, config.problems, config.sampling, config.student, config.sandbox, config.learn.lr

    assert len({shared(RECIPES[f"{size}{arm}"]()) for arm in ARMS}) == 1


@pytest.mark.parametrize(("arm", "parent", "places"), [
    ("azr-paper-reward", "azr", "azr.zero_learnability_reward"),
    ("gasp-rlvr", "gasp", "rlvr"),
    ("no-io-axis", "gasp", "gasp.axes.length gasp.axes.0"),
    ("no-rejection-sampling", "gasp", "steps gasp.rejection_sampling evaluate.every"),
    ("one-step-medium", "gasp", "gasp.ladder.length gasp.ladder.0.band.low gasp.ladder.0.band.high gasp.ladder.0.peak"),
    ("one-step-hard", "lemma-only",
     "gasp.ladder.0.band.low gasp.ladder.0.band.high gasp.ladder.0.peak gasp.ladder.0.sharpness"),
    ("lemma-only", "gasp", "gasp.ladder.length"),
    ("lift-sees-goalpost", "gasp", "gasp.ladder.1.sees"),
    ("random-reward", "rlvr", "rlvr.reward"),
    ("untrained", "rlvr", "steps"),
])  # fmt: skip
def test_an_arm_differs_from_its_parent_in_what_its_name_says(arm: str, parent: str, places: str) -> None:
    found = differences(*(msgspec.to_builtins(RECIPES[name]()) for name in (parent, arm)))

    assert [one.place for one in found] == ["recipe", *places.split()]


@pytest.mark.parametrize("arm", ARMS)
def test_at_the_embedded_size_an_arm_is_the_same_game_with_other_sizes(arm: str) -> None:
    large, small = RECIPES[arm](), RECIPES[f"micro-{arm}"]()
    sizes = {
        "goalposts_per_step", "tries_per_round", "max_attempts", "reuse_tries", "proposals_per_kind",
        "answers_per_kind", "references", "seeds", "pairs", "problems_per_step",
    }  # fmt: skip

    for section in ("gasp", "azr", "rlvr"):
        settings = (msgspec.to_builtins(getattr(config, section)) for config in (large, small))
        assert {one.place for one in differences(*settings)} <= sizes
    assert (small.steps == 0) == (large.steps == 0)


def test_every_recipe_has_a_sentence_of_its_own() -> None:
    said = [recipe.__doc__ or "" for recipe in RECIPES.values()]

    assert all(re.fullmatch(r"\S[^\n]{10,118}\.", sentence) for sentence in said)
    assert len(set(said)) == len(said)
