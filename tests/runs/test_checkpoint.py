"""Checkpoints: whole or out of sight, and few."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gasp_rl.runs.checkpoint import Checkpoint, Rate, checkpoints, save_checkpoint


def writes(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / "weights").write_text(text)

    return write


def save(folder: Path, step: int, *validation: Rate, keep: int = 2) -> None:
    save_checkpoint(folder, step, records=step + 1, checksum="ab", validation=validation, keep=keep, write=writes("w"))


def steps(found: list[Checkpoint]) -> list[int]:
    return [checkpoint.seal.step for checkpoint in found]


def test_the_newest_stay_and_the_best_by_validation(tmp_path: Path) -> None:
    for step, validation in enumerate([0.2, 0.9, None, 0.5, 0.9, None, None], start=1):
        save(tmp_path / "c", step, *([] if validation is None else [Rate(1, validation)]))

    assert steps(checkpoints(tmp_path / "c")) == [7, 6, 2]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["000002", "000006", "000007"]


def test_one_may_be_the_best_at_one_draw_and_another_at_twenty(tmp_path: Path) -> None:
    for step, (ones, twenties) in enumerate([(0.2, 0.7), (0.4, 0.6), (0.1, 0.1), (0.1, 0.1)], start=1):
        save(tmp_path, step, Rate(1, ones), Rate(20, twenties), keep=1)

    assert steps(checkpoints(tmp_path)) == [4, 2, 1]


def test_a_file_that_was_changed_or_lost_is_damage(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (checkpoint,) = checkpoints(tmp_path)
    assert checkpoint.damage == ""

    (checkpoint.path / "engine" / "weights").write_text("v")
    assert checkpoint.damage == "engine/weights"

    (checkpoint.path / "engine" / "weights").unlink()
    assert checkpoint.damage == "engine/weights"


def test_a_write_that_fails_leaves_the_others_and_nothing_to_be_taken_for_a_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)

    def fails(folder: Path) -> None:
        writes("half")(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, 2, 3, "cd", (), 2, fails)

    assert steps(checkpoints(tmp_path)) == [1]
    save(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "000003"]


def test_a_step_that_is_done_again_replaces_its_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save_checkpoint(tmp_path, 1, 2, "other", (Rate(1, 0.5),), 2, writes("again"))

    (checkpoint,) = checkpoints(tmp_path)
    assert checkpoint.seal.checksum == "other"
    assert checkpoint.damage == ""


def test_where_there_are_none_there_are_none(tmp_path: Path) -> None:
    assert checkpoints(tmp_path / "none") == []
