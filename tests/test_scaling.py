"""Laws of the scaling model."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.scaling import (
    Amounts,
    Arrangement,
    Load,
    Stage,
    Times,
    Traffic,
    Work,
    altogether,
    best_division,
    busiest,
    pace,
    predicted,
    sent_bytes,
    whole_run,
)

FREE = Traffic(parameters=1e9, learned=1e9)
"""Whatever is sent takes no time."""

seconds = st.floats(0, 1000)
counts = st.integers(1, 500)


@st.composite
def stages(draw: st.DrawFn) -> Stage:
    sampling, rest, update, publish = (draw(seconds) for _ in range(4))
    rounds = draw(st.integers(1, 8))
    prompts = rounds * draw(counts)
    tokens = prompts * draw(counts)
    # No numbers that are not negative vary more than if one of them were all.
    variation = draw(st.floats(0, 1)) * math.sqrt(max(0, prompts / rounds - 1))
    return Stage(
        "lemma", sampling + rest + update + publish, sampling, update, publish, draw(seconds), tokens,
        longest=draw(st.floats(0, 1)) * tokens, rounds=rounds, prompts=prompts, prompted=draw(seconds) * prompts, spread=variation * tokens / prompts,
        learned=draw(st.floats(0, 1e6)),
    )  # fmt: skip


@st.composite
def works(draw: st.DrawFn) -> Work:
    found = draw(st.lists(stages(), min_size=1, max_size=4))
    workers = draw(st.integers(1, 8))
    shared = draw(st.sampled_from([0, workers]))
    hands = st.integers(1, 4)
    return Work(tuple(found), learners=draw(hands), samplers=draw(hands), workers=workers, shared_cores=shared)


def seconds_of(work: Work, to: Arrangement, traffic: Traffic = FREE) -> float:
    return altogether(work, work.iteration, traffic, to).total


@given(works())
def test_those_who_did_the_work_take_what_was_measured(work: Work) -> None:
    to = work.measured

    assert seconds_of(work, to) == pytest.approx(sum(stage.seconds for stage in work.iteration), abs=1e-6)
    for stage in work.iteration:
        times = predicted(work, stage, FREE, to)
        assert times.sampling == pytest.approx(stage.sampling)
        assert (times.update, times.transfer) == pytest.approx((stage.update, stage.publish))
        assert times.programs == pytest.approx(stage.rest, abs=1e-6)


@given(works(), st.integers(1, 64), st.integers(1, 64), st.tuples(*[st.integers(0, 16)] * 3))
def test_more_of_anything_is_never_slower_while_sending_takes_no_time(
    work: Work, learners: int, samplers: int, more: tuple[int, ...]
) -> None:
    few = Arrangement(learners, samplers, False, work.workers)
    many = Arrangement(learners + more[0], samplers + more[1], False, work.workers + more[2])

    assert seconds_of(work, many) <= seconds_of(work, few) * (1 + 1e-9) + 1e-6


@given(works(), st.integers(1, 16), st.integers(1, 16))
def test_the_best_division_is_no_slower_than_any_other_and_more_devices_do_not_make_it_slower(
    work: Work, learners: int, samplers: int
) -> None:
    like = Arrangement(learners, samplers, False, work.workers)
    best = best_division(learners + samplers, work, FREE, like)
    larger = best_division(learners + samplers + 1, work, FREE, like)

    assert best.devices == learners + samplers
    assert seconds_of(work, best) <= seconds_of(work, like) + 1e-9
    assert seconds_of(work, larger) <= seconds_of(work, best) * (1 + 1e-9) + 1e-6


@given(works(), st.integers(2, 64))
def test_taking_turns_on_all_devices_is_no_slower_than_dividing_them(work: Work, devices: int) -> None:
    shared = Arrangement(devices, devices, True, work.workers)
    divided = best_division(devices, work, FREE, replace(shared, colocated=False))

    assert seconds_of(work, shared) <= seconds_of(work, divided) * (1 + 1e-9) + 1e-6


@given(works(), st.integers(1, 64), st.integers(1, 64))
def test_no_arrangement_is_faster_than_what_cannot_be_shared(work: Work, learners: int, samplers: int) -> None:
    to = Arrangement(learners, samplers, False, 10_000)
    paced = work.pace

    for stage in work.iteration:
        times = predicted(work, stage, FREE, to)
        alone, of = (paced.seconds(load) for load in (Load(0, 0, stage.longest), stage.load(work.samplers)))
        assert times.sampling >= stage.sampling * (alone / of if of else 1) * (1 - 1e-9)
        assert times.sampling >= stage.sampling / samplers * (1 - 1e-9)
        assert times.update == pytest.approx(stage.update * work.learners / learners)
        assert min(times.sampling, times.programs + 1e-6, times.update, times.transfer) >= 0


@given(works(), st.integers(2, 64), st.floats(1e8, 1e12))
def test_sending_takes_the_longer_the_slower_the_link(work: Work, learners: int, link: float) -> None:
    to = Arrangement(learners, 1, False, work.workers)
    slow, fast = (seconds_of(work, to, replace(FREE, link=speed)) for speed in (link, 2 * link))

    assert seconds_of(work, to) <= fast <= slow


@given(
    st.tuples(st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1)),
    st.lists(st.tuples(counts, counts, counts), min_size=1, max_size=8),
)
def test_what_waits_for_the_token_before_is_told_from_what_can_be_shared(
    rates: tuple[float, float, float], sizes: list[tuple[int, int, int]]
) -> None:
    def seconds(*size: int) -> float:
        return sum(rate * count for rate, count in zip(rates, size, strict=True))

    measured = [Stage("a", 0, seconds(x, y, z), tokens=x, prompted=y, longest=z) for x, y, z in sizes]

    found = pace(measured)

    assert min(found.shared, found.reading, found.serial) >= 0
    assert [found.seconds(stage.load(1)) for stage in measured] == pytest.approx([s.sampling for s in measured])


@given(st.integers(1, 1000), st.floats(0, 1), st.integers(1, 200))
def test_whoever_has_most_has_at_least_its_part_and_at_most_all(prompts: int, share: float, hands: int) -> None:
    found = busiest(prompts, share * math.sqrt(prompts - 1), hands)

    assert max(1 / hands, 1 / prompts) <= found <= 1


def test_programs_that_sampling_hid_come_to_light_when_it_is_faster() -> None:
    stage = Stage("lemma", 100, 100, programs=160, tokens=1000, rounds=1, prompts=100_000)
    work = Work((stage,), workers=2)

    one, eight = (predicted(work, stage, FREE, Arrangement(n, n, True, 2)) for n in (1, 8))

    assert (one.sampling, one.programs) == (100, 0)
    assert eight.sampling == 12.5
    assert eight.total == 80.0
    assert eight.bottleneck == "programs"
    assert predicted(work, stage, FREE, Arrangement(8, 8, True, 16)).total == 12.5


def test_on_one_machine_the_processors_do_all_the_work_whoever_does_it() -> None:
    stage = Stage("lemma", 100, 90, programs=60, tokens=1000, rounds=1, prompts=100_000)
    work = Work((stage,), workers=2, shared_cores=2)

    assert predicted(work, stage, FREE, Arrangement(2, 2, False, 2)).total == pytest.approx(75)


def test_what_is_sent_in_an_update() -> None:
    stage = Stage("lemma", 1, update=1, learned=65_536)
    traffic = Traffic(parameters=100, learned=100, itemsize=2, token_budget=16_384)

    # Two micro-batches each: weights twice in 2 bytes, gradients once in 4; published weights once in 4; half of it each.
    assert sent_bytes(stage, traffic, 2) == (2 * (2 * 2 * 100 + 4 * 100) + 4 * 100) / 2


def test_a_whole_run_is_its_parts() -> None:
    work = Work((Stage("lemma", 10),), (Stage("evaluate", 30),), goalposts=0.5, checkpoint=2)

    assert whole_run(work, Amounts(50, 26, 25, 10), FREE, Arrangement()) == 50 * 10 + 26 * 30 + 25 * 0.5 * 30 + 10 * 2


def test_times_add_up() -> None:
    assert Times(1, 2, 3, 4) + Times(1, 1, 1, 1) == Times(2, 3, 4, 5)
    assert Times(1, 2, 3, 4).total == 10
    assert Times(1, 2, 3, 4).bottleneck == "transfer"
