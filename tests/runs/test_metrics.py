import itertools
from pathlib import Path

import pytest

from gasp_rl.progress import PUBLISH, UPDATE
from gasp_rl.runs.append import Appender
from gasp_rl.runs.metrics import Measurement, Meter, read_measurements


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_phase_is_measured_from_its_beginning_to_the_next() -> None:
    told: list[Measurement] = []
    clock, cpu = Clock(), itertools.count()
    meter = Meter(told.append, clock, lambda: float(next(cpu)))

    meter.iteration(3, 9)
    meter.phase("lemma")
    for began, ended, tokens in ((1.0, 3.0, 50), (4.0, 4.5, 7)):
        clock.now = began
        meter.progress(0, 2)
        clock.now = ended
        meter.sampling(10, tokens, tokens // 2)
    meter.executed(0.25)
    meter.executed(0.5)
    clock.now = 6.0
    meter.phase("lemma", UPDATE)
    meter.learning(1000)
    clock.now = 7.5
    meter.phase("lemma", PUBLISH)
    clock.now = 9.0
    meter.phase("record")
    meter.close()

    lemma, record = told
    assert (lemma.step, lemma.phase, lemma.seconds, lemma.tokens) == (3, "lemma", 9.0, 57)
    assert (lemma.sampling_seconds, lemma.update_seconds, lemma.sandbox_cpu_seconds) == (2.5, 3.0, 0.75)
    assert (lemma.publish_seconds, lemma.learned_tokens, lemma.programs) == (1.5, 1000, 2)
    assert (lemma.rounds, lemma.prompts, lemma.longest, lemma.spread) == (2, 2, 25 + 3, 21.5)
    assert lemma.prompt_tokens == 20
    assert lemma.cpu_seconds == 1.0
    assert (record.phase, record.seconds, record.tokens) == ("record", 0.0, 0)


def test_an_update_of_several_phases_is_a_phase_of_its_own() -> None:
    told: list[Measurement] = []
    clock = Clock()
    meter = Meter(told.append, clock)

    meter.phase("practice")
    clock.now = 1.0
    meter.phase("joint update", UPDATE)
    clock.now = 5.0
    meter.close()

    assert [(m.phase, m.seconds, m.update_seconds) for m in told] == [("practice", 1, 0), ("joint update", 4, 4)]


def test_what_happens_before_any_phase_is_not_measured() -> None:
    told: list[Measurement] = []
    meter = Meter(told.append)

    meter.executed(1.0)
    meter.sampling(5, 5, 5)
    meter.learning(5)
    meter.iteration(1, 2)
    meter.close()

    assert told == []


def test_measurements_are_read_back_without_a_torn_last_line_which_the_next_writer_cuts_away(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_measurements(path) == ()
    first, second = Measurement(1, "lemma", 2.0, tokens=3000), Measurement(2, "lemma", 4.0)
    Appender(path, pytest.fail).write(first)
    with path.open("ab") as file:
        file.write(b'{"step": 2, "ph')

    assert read_measurements(path) == (first,)
    Appender(path, pytest.fail).write(second)
    assert read_measurements(path) == (first, second)
    assert first.tokens_per_second == 1500.0


def test_a_torn_line_may_be_longer_than_what_is_read_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"1\n" + b"x" * (1 << 17))

    Appender(path, pytest.fail).write(2)

    assert path.read_bytes() == b"1\n2\n"


def test_a_file_that_cannot_be_written_is_said_once_and_costs_nothing_else(tmp_path: Path) -> None:
    notes: list[str] = []
    appender = Appender(tmp_path / "missing" / "lines.jsonl", notes.append)

    appender.write(1)
    appender.write(2)

    assert notes == [
        f"{tmp_path}/missing/lines.jsonl cannot be written: No such file or directory; the run goes on without it"
    ]
