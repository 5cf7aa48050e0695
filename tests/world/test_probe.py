"""Measuring a model by reading its text back: a perfect one and a silent one are told apart."""

from collections import Counter

import pytest

from gasp_rl.config import LEMMA, LIFT
from gasp_rl.policy.policy import EnginePolicy, Policy
from gasp_rl.policy.scripted import Reply, ScriptedEngine
from gasp_rl.problems.microcode.draw import fits, output_of, read_input
from gasp_rl.problems.microcode.operations import read_program, read_statement
from gasp_rl.problems.microcode.splits import load
from gasp_rl.rollout import Axis, Kind
from gasp_rl.selfplay.prompts import micro
from gasp_rl.selfplay.prompts.base import Draft
from gasp_rl.selfplay.prompts.micro import reply
from gasp_rl.world import probe
from gasp_rl.world.probe import ProbeConfig

SMALL = ProbeConfig(samples=2, compositions=20, proposals=8, candidates=5, candidate_samples=2, max_tokens=2000)
PROGRAM = "def f(x):\n    # (1) reverse\n    x = x[::-1]\n    return x"
GOOD = Draft("on the list: (1) reverse", PROGRAM, ("[1, 2]", "[3]", "[]", "[-4, 5]", "[0, 12]"))


def perfect(prompt: str, sample: int, seed: int) -> str:
    """What somebody says who never errs: the asked program, the value of the shown one, an honest easy proposal."""
    if prompt.startswith(micro.SOLVE):
        asked = read_statement(prompt.split("\n")[1])
        assert asked is not None
        return asked.program
    if prompt.startswith(micro.RUN):
        body, call = prompt.removeprefix(micro.RUN).rsplit("\n>>> ", 1)
        program, value = read_program(body), read_input(call.removeprefix("f(").removesuffix(")\n"))
        assert program is not None
        assert value is not None
        return repr(output_of(program, value))
    return reply(GOOD)


def silent(prompt: str, sample: int, seed: int) -> str:
    return ""


def policy(reply_with: Reply = perfect) -> Policy:
    return EnginePolicy(ScriptedEngine(reply_with))


def test_a_perfect_student_passes_everything_and_a_silent_one_nothing() -> None:
    problems = load("validation")[:20]

    best = probe.problem_rates(policy(), problems, 2, SMALL)
    worst = probe.problem_rates(policy(silent), problems, 2, SMALL)

    assert {rate for rates in best.values() for rate in rates} == {1.0}
    assert {rate for rates in worst.values() for rate in rates} == {0.0}
    assert probe.literal_accuracy(policy(), Kind.DEDUCTION, SMALL) == 1.0
    assert probe.literal_accuracy(policy(silent), Kind.ABDUCTION, SMALL) == 0.0


def test_a_proposal_is_counted_by_its_first_fault_or_as_honest() -> None:
    faults: Counter[str] = Counter()

    good = probe.read_honest(reply(GOOD), faults)
    probe.read_honest("", faults)
    probe.read_honest(reply(GOOD).replace("(1) reverse\ndef", "(1) sort ascending\ndef"), faults)
    probe.read_honest(reply(GOOD).replace("[3]", "[[3]]"), faults)
    probe.read_honest(reply(GOOD).replace("x[::-1]", "x[::-2]"), faults)

    assert good is not None
    assert good[0] == GOOD
    assert faults == {"no block of inputs": 1, "dishonest": 1, "invalid": 2}


def test_proposals_that_everybody_solves_are_outside_the_band() -> None:
    proposals = probe.propose(policy(), LEMMA, [(Axis.F, "# goalpost\n")] * 3, SMALL)

    assert [written.rate for written in proposals.written] == [1.0] * 3
    assert proposals.in_band(LEMMA, SMALL.samples) == []
    assert proposals.in_band(LIFT, SMALL.samples) == []


def test_a_whole_probe_reads_as_a_short_table(capsys: pytest.CaptureFixture[str]) -> None:
    probe.probe(policy(), SMALL)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "validation: pass@1 1.0000, never solved 0 of 150"
    assert any(line.startswith("lemma: honest 1.00 of 8") for line in lines)
    assert any(line.startswith("candidates, 2 samples") for line in lines)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, -2]", [1, -2]),
        ("[]", []),
        ("[[1], []]", [[1], []]),
        ("[1, [2]]", None),
        ("7", None),
        ("[True]", None),
        ("[1", None),
        ("print()", None),
    ],
)
def test_inputs_are_lists_of_numbers_or_of_rows(text: str, value: object) -> None:
    assert read_input(text) == value


def test_the_empty_list_fits_every_composition() -> None:
    flat, rows = read_statement("on the list: (1) reverse"), read_statement("on each row: (1) reverse")
    assert flat is not None
    assert rows is not None

    assert fits([], flat)
    assert fits([], rows)
    assert not fits([1], rows)
    assert not fits([[1]], flat)
