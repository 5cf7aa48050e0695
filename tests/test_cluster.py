"""Processes that answer, fail, fall silent and die."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Protocol

import pytest

from gasp_rl.cluster import Cluster, Room, Worker, ready, together
from gasp_rl.errors import EngineError, WorkerError, WorkerLostError

pytestmark = pytest.mark.ray

PATIENCE = 60.0


class Parrot(Protocol):
    """What the processes of these tests can do."""

    def say(self, text: str) -> str: ...

    def wait(self, seconds: float) -> str: ...

    def fail(self) -> str: ...

    def break_off(self) -> str: ...

    def die(self) -> str: ...


def parrot() -> type[Parrot]:
    """A class made here travels whole: the other processes cannot import this file."""

    class Polly:
        def say(self, text: str) -> str:
            return text

        def wait(self, seconds: float) -> str:
            time.sleep(seconds)
            return "waited"

        def fail(self) -> str:
            raise EngineError("no seeds left")

        def break_off(self) -> str:
            raise RuntimeError("Connection closed by peer")

        def die(self) -> str:
            os.kill(os.getpid(), signal.SIGKILL)
            return ""

    return Polly


@pytest.fixture
def parrots(cluster: Cluster) -> Iterator[list[Worker[Parrot]]]:
    places = cluster.reserve([Room()] * 2, PATIENCE)
    birds = [places.start(n, f"parrot {n + 1} of 2", Room(), parrot()) for n in range(2)]
    yield birds
    for bird in birds:
        bird.kill()
    places.give_back()


def test_each_answers_and_a_result_is_handed_on_without_coming_here(parrots: list[Worker[Parrot]]) -> None:
    said = [bird.call(Parrot.say, str(n)) for n, bird in enumerate(parrots)]

    assert together(said, PATIENCE) == ["0", "1"]
    assert parrots[1].call(Parrot.say, said[0].handed_on).result(PATIENCE) == "0"


def test_a_fault_of_ours_arrives_as_it_was_raised(parrots: list[Worker[Parrot]]) -> None:
    with pytest.raises(EngineError, match=r"^no seeds left$"):
        parrots[0].call(Parrot.fail).result(PATIENCE)


def test_any_other_is_one_line_that_names_the_process(parrots: list[Worker[Parrot]]) -> None:
    with pytest.raises(WorkerError, match=r"^parrot 1 of 2 failed: RuntimeError: Connection closed by peer$"):
        parrots[0].call(Parrot.break_off).result(PATIENCE)
    assert parrots[0].call(Parrot.say, "still here").result(PATIENCE) == "still here"


def test_a_process_that_dies_is_named(parrots: list[Worker[Parrot]]) -> None:
    with pytest.raises(WorkerLostError, match=r"^parrot 2 of 2 died"):
        parrots[1].call(Parrot.die).result(PATIENCE)
    with pytest.raises(WorkerLostError, match=r"^parrot 2 of 2 died"):
        parrots[1].call(Parrot.say, "?").result(PATIENCE)


def test_one_that_gives_no_answer_in_time_is_named(parrots: list[Worker[Parrot]]) -> None:
    assert parrots[0].call(Parrot.say, "awake").result(PATIENCE) == "awake"
    with pytest.raises(WorkerLostError, match=r"^parrot 1 of 2 gave no answer for 0\.2 s"):
        parrots[0].call(Parrot.wait, 5).result(0.2)


def test_of_processes_that_work_together_the_dead_one_is_the_cause(parrots: list[Worker[Parrot]]) -> None:
    with pytest.raises(WorkerLostError, match="parrot 2 of 2 died"):
        together([parrots[0].call(Parrot.break_off), parrots[1].call(Parrot.die)], PATIENCE)


def test_who_waits_for_a_dead_one_is_not_waited_for(parrots: list[Worker[Parrot]]) -> None:
    with pytest.raises(WorkerLostError, match="parrot 2 of 2 died"):
        together([parrots[0].call(Parrot.wait, 3600), parrots[1].call(Parrot.die)], PATIENCE)


def test_those_that_are_done_are_told_apart(parrots: list[Worker[Parrot]]) -> None:
    slow, fast = parrots[0].call(Parrot.wait, 3600), parrots[1].call(Parrot.say, "done")

    assert ready([slow, fast], PATIENCE) == [fast]
    assert ready([slow], 0.1) == []


def test_more_than_there_is_is_refused_with_numbers(cluster: Cluster) -> None:
    with pytest.raises(WorkerError, match=r"no room for 1 processes: they need 1 CPUs and 3 GPUs"):
        cluster.reserve([Room(1, 3)], 2)
