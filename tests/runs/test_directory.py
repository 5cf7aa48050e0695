import json
from pathlib import Path

import pytest

from gasp_rl.config import AzrConfig, Band, GaspConfig, RunConfig, RungConfig
from gasp_rl.errors import ConfigError, RunError
from gasp_rl.runs.directory import create_run, open_run, read_config

CONFIG = RunConfig(
    recipe="mine",
    seed=7,
    gasp=GaspConfig(ladder=(RungConfig("step", "goalpost", "easier", Band(2, 6), 0.4, 2.0),), axes=("f",)),
)


@pytest.mark.parametrize("config", [CONFIG, RunConfig(recipe="azr", azr=AzrConfig())], ids=["gasp", "azr"])
def test_settings_are_read_back_as_they_were(tmp_path: Path, config: RunConfig) -> None:
    run = create_run(tmp_path / "new" / "run", config)

    assert read_config(open_run(run.root).config) == config


def test_a_directory_with_files_in_it_is_refused_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")

    with pytest.raises(RunError, match="already holds files; give another --out"):
        create_run(tmp_path, CONFIG)


def test_an_empty_directory_is_fine(tmp_path: Path) -> None:
    assert create_run(tmp_path, CONFIG).config.is_file()


def test_a_directory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        open_run(tmp_path)


def test_an_unknown_setting_is_refused_with_the_nearest_that_exists(tmp_path: Path) -> None:
    run = create_run(tmp_path, CONFIG)
    settings = json.loads(run.config.read_text())
    settings["gasp"]["ladder"][0]["sharpnes"] = 3.0
    run.config.write_text(json.dumps(settings))

    with pytest.raises(ConfigError, match=r"gasp\.ladder\.0\.sharpnes; did you mean gasp\.ladder\.0\.sharpness\?"):
        read_config(run.config)


def test_a_setting_that_is_missing_takes_its_default(tmp_path: Path) -> None:
    run = create_run(tmp_path, CONFIG)
    run.config.write_text('{"recipe": "mine", "gasp": {}}')

    assert read_config(run.config) == RunConfig(recipe="mine", gasp=GaspConfig())


def test_a_value_out_of_range_keeps_its_own_message(tmp_path: Path) -> None:
    run = create_run(tmp_path, CONFIG)
    run.config.write_text('{"recipe": "mine", "steps": -1, "gasp": {}}')

    with pytest.raises(ConfigError, match="steps must be 0 or more, got -1"):
        read_config(run.config)


def test_a_run_that_cannot_be_created_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(RunError, match="file/run cannot be created: Not a directory"):
        create_run(tmp_path / "file" / "run", CONFIG)
