import shlex
from dataclasses import replace

import pytest

from gasp_rl.commands import Train, Training, read
from gasp_rl.config import LEMMA, AzrConfig, GaspConfig, RunConfig
from gasp_rl.recipes import RECIPES, gasp, micro
from gasp_rl.report.reproduce import reproduction


def asked(command: str) -> RunConfig:
    """The settings that a command line means."""
    found = read(shlex.split(command)[1:])
    assert isinstance(found, Train)
    assert isinstance(found.recipe, Training)
    return found.recipe.config


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_as_it_is_needs_its_name_alone(name: str) -> None:
    found = reproduction(RECIPES[name](), RECIPES[name]())

    assert (found.command, found.changed, found.complete) == (f"gasp train {name}", (), True)


@pytest.mark.parametrize(
    "options",
    [
        "--steps 12 --seed 3",
        "--gasp.ladder.0.band.low 2 --gasp.ladder.1.peak 0.2",
        "--gasp.no-rejection-sampling --no-matched-draws",
        "--evaluate.ks 1 5 --evaluate.every 7",
        "--problems.goalposts 'my problems; rm -rf.jsonl'",
        "--learn.betas 0.5 0.75 --learn.whiten sequence",
        "--track tensorboard",
    ],
)
def test_the_command_of_a_report_gives_the_settings_of_its_run(options: str) -> None:
    config = asked(f"gasp train micro-gasp {options}")

    found = reproduction(config, micro(gasp()))

    assert found.complete
    assert found.changed
    assert asked(found.command) == config


def test_what_no_flag_can_say_is_owned_up_to() -> None:
    shorter = micro(replace(gasp(), gasp=GaspConfig(ladder=(LEMMA,))))

    assert not reproduction(shorter, micro(gasp())).complete
    assert not reproduction(RunConfig(recipe="unknown", azr=AzrConfig()), None).complete
