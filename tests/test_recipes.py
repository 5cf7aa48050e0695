"""Every recipe, all of its settings. What changes here changes what users run: `make golden` writes it down again."""

from pathlib import Path

import pytest

from gasp_rl.config import RunConfig
from gasp_rl.recipes import RECIPES
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


@pytest.mark.parametrize("size", ["", "micro-"])
def test_the_arms_of_a_comparison_differ_only_in_the_way_they_play(size: str) -> None:
    def shared(config: RunConfig) -> tuple[object, ...]:
        return config.model, config.problems, config.sampling, config.student, config.sandbox, config.learn.lr

    assert len({shared(RECIPES[f"{size}{arm}"]()) for arm in ("gasp", "azr", "rlvr")}) == 1
