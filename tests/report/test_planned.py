"""What a plan says."""

from dataclasses import replace

import pytest

from gasp_rl.config import ModelConfig, RayConfig
from gasp_rl.policy.needs import GIB, Holder, Machine, MemoryPlan, Needs, Part, Remedy, Term
from gasp_rl.recipes import demo
from gasp_rl.report.planned import memory_text, times_text, unknown_times, whole_text
from gasp_rl.scaling import Amounts, Arrangement, Measured, Stage, Traffic, Work

CONFIG = replace(demo(), engine="ray", model=ModelConfig(path="a/seven"), ray=RayConfig(learners=6, samplers=2))
NEEDS = Needs((Term(Part.WEIGHTS, 40 * GIB, "4 bytes × 10 billion parameters, and a great many words that do not fit"),
               Term(Part.ACTIVATIONS, 60 * GIB, "so much of everything that has to be kept until its gradient is known")))  # fmt: skip


def plan(holder: Holder) -> MemoryPlan:
    machine = Machine(Term(Part.OPENING, 100 * GIB, "8 × all"), (Term(Part.STORE, 20 * GIB, "2 × all"),))
    return MemoryPlan(10**10, 10**10, "cuda", "bfloat16", (holder,), machine, 120 * 10**9, 40 * 10**9)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_flag_is_cut(width: int) -> None:
    helps = Remedy("--model.recompute", Needs((Term(Part.WEIGHTS, 50 * GIB),)))

    text = memory_text(CONFIG, plan(Holder("each of 6 learners", NEEDS, 80 * GIB, helps)), width)

    assert max(map(len, text.splitlines())) <= width
    joined = " ".join(text.split())
    assert "= 100.0 GiB at most, of 80.0 GiB: does not fit; with --model.recompute it takes 50.0 GiB" in joined
    assert "= 100.0 GiB at most" in joined.partition("each machine's own memory")[2]
    assert "--ray.object-store-mb 20480" in joined
    assert "120.0 GB each checkpoint" in joined


@pytest.mark.parametrize(
    ("available", "said"),
    [(0, "not told (--device-memory-gb)"), (100 * GIB, "of 100.0 GiB: fits"), (99 * GIB, "and no setting helps")],
)
def test_whether_it_fits(available: int, said: str) -> None:
    assert said in " ".join(memory_text(CONFIG, plan(Holder("each", NEEDS, available)), 80).split())


WORK = Work(
    (Stage("lemma", 100.0, 60.0, 30.0, 2.0, 40.0, 6000, 100, 1, 600, 3.0, 9000, 400), Stage("record", 0.01)),
    (Stage("evaluate", 50.0, 40.0, tokens=4000, longest=100, rounds=1, prompts=100),), goalposts=0.5, workers=2,
)  # fmt: skip
FOUND = Measured("runs/one", "local", 2, WORK, tuple(f"learn.lr{n} 1, planned 2" for n in range(6)))
TRAFFIC = Traffic(10**9, 10**9)


def test_times_say_what_was_measured_what_is_not_known_and_what_is_next() -> None:
    text = times_text(FOUND, TRAFFIC, Arrangement(6, 2, False, 2), (1, 8), 80)

    joined = " ".join(text.split())
    assert "100 tokens sampled; 300 tokens learned from, prompts included; 20 programs at the most; 2,000 MB" in joined
    assert "and 2 more" in joined
    assert "6 learners and 2 samplers" in joined
    assert "(--link-gb-per-second)" in joined
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    one, eight = (next(line for line in lines if line.startswith(count)) for count in ("1  ", "8 = "))
    assert one.split() == ["1", "60.0", "8.0", "30.0", "2.0", "100", "1.00x", "sampling"]
    assert eight.startswith("8 = 3 + 5 ")
    assert not any(line.startswith("record") for line in lines)


def test_the_whole_run_and_what_it_costs() -> None:
    amounts = Amounts(iterations=36, evaluations=2, matched=2, checkpoints=0)

    text = whole_text(FOUND, amounts, TRAFFIC, Arrangement(workers=2), 2.0, 80)

    assert "about 1 h 02 min" in text  # 3,600 + 2 * 50 + 2 * .5 * 50 s
    assert "That is 1.0 device hours, 2.08 at 2 an hour." in " ".join(text.split())
    bare = replace(FOUND, work=replace(WORK, evaluation=()))
    assert "the run that was measured had none" in " ".join(
        whole_text(bare, amounts, TRAFFIC, Arrangement(), 0, 80).split()
    )


def test_without_rates_no_speed_is_invented() -> None:
    assert unknown_times("runs/rates", 80).startswith("Time and cost: not known.")
