import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gasp_rl.errors import ConfigError
from gasp_rl.rollout import Evaluation, Iteration, Phase, ProblemScore, Proposal, Rejection, UpdateStats
from gasp_rl.runs.metrics import Measurement
from gasp_rl.runs.scalars import of_iteration
from gasp_rl.runs.trackers import Apart, JsonLines, Remembering, Tracker, Tracking, require_installed

ITERATION = Iteration(
    1,
    (
        Phase(
            "joint update",
            (
                Proposal("a", "lemma", "", passes=3, tries=10, reward=0.5),
                Proposal("b", "lemma", "", rejection=Rejection.MALFORMED, reward=-1.0),
            ),
            update=UpdateStats("joint update", 2, 90, -0.25, float("nan"), 0.4, 1.2, 0.0, skipped=False),
            dissimilarity=0.75,
        ),
    ),
)


def evaluation(step: int, split: str = "goalposts") -> Evaluation:
    return Evaluation(step, split, 1.0, (ProblemScore("g", 4, 2, 2),))


def test_an_iteration_becomes_shares_of_a_funnel_and_the_numbers_of_its_update() -> None:
    values = of_iteration(ITERATION)

    assert values["joint_update/share/accepted"] == values["joint_update/share/malformed"] == 0.5
    assert values["joint_update/share/too_easy"] == 0.0
    assert values["joint_update/pass_rate"] == 0.3
    assert values["joint_update/dissimilarity"] == 0.75
    assert values["joint_update/update/entropy"] == 1.2


def test_what_is_not_finite_is_left_out() -> None:
    tracker = Remembering()
    tracking = Tracking([tracker], ks=(1,))

    tracking.iteration(1, 2)
    tracking.iterated(ITERATION)
    tracking.signal("log_ratio", float("inf"), "")
    tracking.close()

    ((_, values),) = tracker.told
    assert values["joint_update/update/grad_norm"] == 0.4
    assert not {"joint_update/update/loss", "health/log_ratio"} & values.keys()


def test_what_belongs_to_an_iteration_is_told_together_when_the_next_begins_or_the_run_ends() -> None:
    tracker = Remembering()
    tracking = Tracking([tracker], ks=(1,))

    tracking.phase("evaluate")
    tracking.evaluation(evaluation(0))
    tracking.measured(Measurement(0, "evaluate", 2.0, memory_mb=10))
    tracking.iteration(1, 2)
    tracking.iterated(ITERATION)
    tracking.measured(Measurement(1, "lemma", 3.0, memory_mb=20))
    tracking.measured(Measurement(1, "practice", 4.0, memory_mb=30))
    assert len(tracker.told) == 1
    tracking.close()

    (before, base), (one, first) = tracker.told
    assert (before, one) == (0, 1)
    assert base["goalposts/pass@1"] == 0.5
    assert base["goalposts/solved"] == 1.0
    assert (first["cost/all/seconds"], first["cost/lemma/seconds"], first["cost/memory_mb"]) == (7.0, 3.0, 30.0)
    assert tracker.closed


def test_an_iteration_that_is_known_late_is_told_under_its_own_number_with_what_it_cost() -> None:
    tracker = Remembering()
    tracking = Tracking([tracker], ks=(1,))

    for step in (1, 2, 3):
        tracking.iteration(step, 3)
        if step > 1:  # one behind
            tracking.iterated(replace(ITERATION, step=step - 1))
            tracking.signal("valid", step - 1, "")
        tracking.measured(Measurement(step, "lemma", float(step), 10))
    tracking.iterated(replace(ITERATION, step=3))
    tracking.close()

    assert [step for step, _ in tracker.told] == [1, 2, 3]
    assert [values["cost/seconds_so_far"] for _, values in tracker.told] == [1.0, 3.0, 6.0]
    assert [values.get("health/valid") for _, values in tracker.told] == [1.0, 2.0, None]
    assert all("joint_update/update/entropy" in values for _, values in tracker.told)


def test_what_was_spent_so_far_counts_earlier_lives_of_the_run() -> None:
    tracker = Remembering()
    tracking = Tracking([tracker], (1,), [Measurement(1, "lemma", 10.0, 100), Measurement(1, "lift", 5.0, 50)])

    tracking.iteration(2, 9)
    tracking.measured(Measurement(2, "lemma", 2.0, 7))
    tracking.iteration(3, 9)
    tracking.measured(Measurement(3, "lemma", 1.0, 3))
    tracking.close()

    assert [v["cost/tokens_so_far"] for _, v in tracker.told] == [157.0, 160.0]
    assert [v["cost/seconds_so_far"] for _, v in tracker.told] == [17.0, 18.0]


def test_evaluations_of_the_part_that_is_gone_on_with_are_not_told_again() -> None:
    tracker = Remembering()
    tracking = Tracking([tracker], ks=(1,))

    tracking.evaluation(evaluation(0))
    tracking.evaluation(evaluation(2))
    tracking.iteration(3, 9)
    tracking.evaluation(evaluation(3))
    tracking.close()

    assert [step for step, _ in tracker.told] == [3]


def test_json_lines_are_one_flat_object_per_iteration(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "scalars.jsonl", pytest.fail)

    lines.log(3, {"lemma/reward": -0.5})
    lines.close()

    assert json.loads((tmp_path / "scalars.jsonl").read_text()) == {"step": 3, "lemma/reward": -0.5}


def test_a_tracker_that_is_not_installed_is_refused_with_the_fix() -> None:
    with pytest.raises(ConfigError, match=r"absent_tracker is not installed; get it with: pip install 'gasp-rl\["):
        require_installed(["absent_tracker"])


def python(source: str) -> Callable[[str, Path], Sequence[str]]:
    return lambda name, folder: [sys.executable, "-c", source, str(folder)]


def apart(tmp_path: Path, source: str, notes: list[str], farewell_seconds: float = 20.0) -> Apart:
    return Apart("fake", tmp_path / "fake", notes.append, python(source), farewell_seconds)


@pytest.mark.parametrize("kind", ["remembering", "lines", "nowhere", "apart", "gone"])
def test_no_tracker_ever_raises(tmp_path: Path, kind: str) -> None:
    def note(text: str) -> None:
        assert "the run goes on without it" in text

    trackers: dict[str, Callable[[], Tracker]] = {
        "remembering": Remembering,
        "lines": lambda: JsonLines(tmp_path / "scalars.jsonl", note),
        "nowhere": lambda: JsonLines(tmp_path / "missing" / "scalars.jsonl", note),
        "apart": lambda: Apart("fake", tmp_path / "fake", note, python("import sys; sys.stdin.read()")),
        "gone": lambda: Apart("fake", tmp_path / "missing" / "fake", note, python("")),
    }
    tracker = trackers[kind]()

    for step in (0, 1, 1, 2):
        tracker.log(step, {"lemma/reward": 0.5, "lemma/accepted": 0.0})
    tracker.log(3, {})
    tracker.close()


def test_another_process_is_told_every_line(tmp_path: Path) -> None:
    notes: list[str] = []
    copies = "import sys, pathlib; pathlib.Path(sys.argv[1], 'copy').write_bytes(sys.stdin.buffer.read())"
    tracker = apart(tmp_path, copies, notes)

    for step in range(200):
        tracker.log(step, {f"name/{i}": float(i) for i in range(100)})  # more than a pipe holds
    tracker.close()

    told = [json.loads(line) for line in (tmp_path / "fake" / "copy").read_text().splitlines()]
    assert [line["step"] for line in told] == list(range(200))
    assert told[7]["values"]["name/9"] == 9.0
    assert notes == []


def test_a_tracker_that_fails_is_dropped_with_one_note(tmp_path: Path) -> None:
    notes: list[str] = []
    tracker = apart(tmp_path, "raise SystemExit('no account')", notes)

    tracker.log(1, {"x": 1.0})
    tracker.close()
    tracker.log(2, {"x": 1.0})

    log = tmp_path / "fake" / "tracker.log"
    assert notes == [f"tracker fake ended with exit status 1; the run goes on without it (see {log})"]
    assert log.read_text() == "no account\n"


def test_a_tracker_that_is_gone_while_the_run_goes_on_is_dropped(tmp_path: Path) -> None:
    notes: list[str] = []
    tracker = apart(tmp_path, "", notes)

    tracker.log(1, {"x": 1.0})
    assert tracker._process
    tracker._process.wait()  # else what is told meanwhile may be too much for it
    tracker.log(2, {"x": 1.0})
    tracker.close()

    assert len(notes) == 1
    assert notes[0].startswith("tracker fake failed: Broken pipe; the run goes on without it")


def test_a_tracker_that_never_reads_is_dropped_when_too_much_waits_for_it(tmp_path: Path) -> None:
    notes: list[str] = []
    tracker = apart(tmp_path, "import time; time.sleep(1000)", notes)

    for step in range(100):
        tracker.log(step, {f"name/{i}": float(i) for i in range(1000)})
    tracker.close()

    assert [note.split(";")[0] for note in notes] == ["tracker fake cannot keep up"]


def test_a_tracker_that_hangs_at_the_end_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    notes: list[str] = []
    tracker = apart(tmp_path, "import time; time.sleep(1000)", notes, farewell_seconds=0.2)

    tracker.log(1, {"x": 1.0})
    tracker.close()

    assert [note.split(";")[0] for note in notes] == ["tracker fake was not done 0.2 s after the end"]


def test_a_tracker_that_cannot_be_started_is_dropped(tmp_path: Path) -> None:
    notes: list[str] = []
    tracker = Apart("fake", tmp_path / "fake", notes.append, lambda name, folder: ["/no/such/program"])

    tracker.log(1, {"x": 1.0})
    tracker.close()

    assert [note.split(";")[0] for note in notes] == ["tracker fake failed: No such file or directory"]


def told_to(name: str, run: Path) -> None:
    """Two iterations, in two lives of the run."""
    run.mkdir()
    (run / "config.json").write_text('{"recipe": "demo"}')
    for step in (1, 2):
        tracker = Apart(name, run / name, pytest.fail)
        tracker.log(step, {"lemma/reward": -0.5 * step})
        tracker.close()


@pytest.mark.slow
def test_tensorboard_shows_the_curves(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415 - slow
    from tensorboard.util import tensor_util  # noqa: PLC0415 - as above

    told_to("tensorboard", tmp_path / "run")

    found = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    found.Reload()
    points = [(e.step, float(tensor_util.make_ndarray(e.tensor_proto))) for e in found.Tensors("lemma/reward")]
    assert points == [(1, -0.5), (2, -1.0)]
    assert (tmp_path / "run" / "tensorboard" / "tracker.log").read_text() == ""


@pytest.mark.trackers
def test_weights_and_biases_keeps_a_run_offline(tmp_path: Path) -> None:
    told_to("wandb", tmp_path / "run")

    folder = tmp_path / "run" / "wandb"
    kept = (folder / "id").read_text()
    lives = list(folder.glob(f"wandb/offline-run-*-{kept}"))
    assert len(lives) == 2
    assert all((life / f"run-{kept}.wandb").stat().st_size > 100 for life in lives)


@pytest.mark.trackers
def test_trackio_keeps_a_run_in_its_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3  # noqa: PLC0415 - only here

    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))

    told_to("trackio", tmp_path / "run")

    with sqlite3.connect(tmp_path / "trackio" / "gasp-rl.db") as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    assert {name for name, _, _ in rows} == {f"run-{(tmp_path / 'run' / 'trackio' / 'id').read_text()}"}
    assert [(step, json.loads(metrics)["lemma/reward"]) for _, step, metrics in rows] == [(1, -0.5), (2, -1.0)]
