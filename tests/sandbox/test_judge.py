"""Was it right? Programs here are run by a sandbox that knows them by heart, so only the judge is on trial."""

from collections.abc import Callable, Iterable, Iterator

import pytest

from gasp_rl.rollout import Judgement, Pair, Rejection
from gasp_rl.sandbox.base import Execution, Job, Status
from gasp_rl.sandbox.judge import (
    ALLOWED_IMPORTS,
    BANNED_NAMES,
    Checked,
    Program,
    Verdict,
    check,
    grade_abduction,
    grade_deduction,
    grade_pairs,
    policy_breach,
)
from gasp_rl.sandbox.scripted import ScriptedSandbox, failed, gave

ADD_ONE = "def f(x):\n    return x + 1"
NO_WORKER = Execution(Status.INFRA, (), "no worker")


def add_one(job: Job) -> Execution:
    return gave(*(str(int(text) + 1) for text in job.inputs))


# Proposals


def checked(execute: Callable[[Job], Execution], source: str = ADD_ONE, *inputs: str) -> Checked:
    ((_, found),) = check(ScriptedSandbox(execute), [Program(source, inputs or ("1", "2"))])
    return found


def test_a_program_that_agrees_with_itself_is_accepted_with_canonical_inputs_and_outputs() -> None:
    found = checked(add_one, ADD_ONE, "  1", "0x2")

    assert found == Checked(None, "", ("1", "2"), ("2", "3"))


def test_the_second_process_has_another_hash_seed_and_the_inputs_backwards() -> None:
    sandbox = ScriptedSandbox(add_one)

    list(check(sandbox, [Program(ADD_ONE, ("1", "2", "3"))]))

    first, second = sandbox.jobs
    assert first.inputs == ("1", "2", "3")
    assert second.inputs == ("3", "2", "1")
    assert first.hash_seed != second.hash_seed
    assert first.clock is not None
    assert second.clock is not None
    assert abs(first.clock - second.clock) > 86_400


def test_a_program_that_disagrees_with_itself_is_refused_and_told_where() -> None:
    seeds: list[int] = []

    def moody(job: Job) -> Execution:
        seeds.append(job.hash_seed)
        return add_one(job) if len(seeds) == 1 else gave("3", "7")  # f(2), then f(1)

    found = checked(moody)

    assert found == Checked(Rejection.NONDETERMINISTIC, "f(1) gave 2, then 7")


def test_failing_in_the_first_run_is_invalid_and_only_in_the_second_nondeterministic() -> None:
    def fails_in(run: int) -> Callable[[Job], Execution]:
        runs = iter(range(2))
        return lambda job: failed(Status.RUNTIME_ERROR) if next(runs) == run else add_one(job)

    assert checked(fails_in(0)) == Checked(Rejection.INVALID, "runtime_error: why")
    assert checked(fails_in(1)) == Checked(Rejection.NONDETERMINISTIC, "second run: runtime_error: why")


@pytest.mark.parametrize("run", [0, 1])
def test_a_fault_of_ours_in_either_run_is_not_held_against_the_program(run: int) -> None:
    runs = iter(range(2))

    found = checked(lambda _: NO_WORKER if next(runs) == run else failed(Status.MEMORY))

    assert found == Checked(Rejection.SANDBOX_FAULT, "no worker")


def test_an_input_that_is_no_literal_is_refused_before_anything_runs() -> None:
    sandbox = ScriptedSandbox(add_one)

    found = dict(check(sandbox, [Program(ADD_ONE, ("1", "__import__('os')"))]))

    assert found == {0: Checked(Rejection.MALFORMED, "input is not a literal: __import__('os')")}
    assert sandbox.jobs == []


def test_every_program_is_answered_once_whatever_becomes_of_it() -> None:
    programs = [
        Program("import os\ndef f(x): pass", ("1",)),
        Program(ADD_ONE, ("1",)),
        Program(ADD_ONE, ("f(",)),
        Program(ADD_ONE, ("2",)),
        Program("def g(", ("1",)),
    ]

    found = list(check(ScriptedSandbox(add_one), programs))

    assert {index: one.rejection for index, one in found} == {
        0: Rejection.UNSAFE,
        1: None,
        2: Rejection.MALFORMED,
        3: None,
        4: Rejection.INVALID,
    }
    assert len(found) == len(programs)


@pytest.mark.parametrize("module", ["os", "random", "time", "os.path", "sys", "subprocess", "numpy"])
def test_modules_that_are_not_on_the_list_are_unsafe(module: str) -> None:
    for line in (f"import {module}", f"import math, {module}", f"from {module} import x", f"import {module} as math"):
        assert policy_breach(f"{line}\n{ADD_ONE}") == Checked(Rejection.UNSAFE, f"imports {module}")
        assert policy_breach(f"def f(x):\n    {line}\n    return x") is not None


@pytest.mark.parametrize("module", sorted(ALLOWED_IMPORTS))
def test_modules_on_the_list_are_safe(module: str) -> None:
    assert policy_breach(f"import {module}\nfrom {module} import *\n{ADD_ONE}") is None


def test_an_import_from_nowhere_is_unsafe() -> None:
    assert policy_breach(f"from . import x\n{ADD_ONE}") == Checked(Rejection.UNSAFE, "imports .")


@pytest.mark.parametrize("name", sorted(BANNED_NAMES))
def test_names_that_reach_outside_are_unsafe_called_or_not(name: str) -> None:
    assert policy_breach(f"def f(x):\n    g = {name}\n    return x") == Checked(Rejection.UNSAFE, f"uses {name}")


@pytest.mark.parametrize(
    ("expression", "rule"),
    [
        ("x.__class__", "uses .__class__"),
        ("().__class__.__bases__[0].__subclasses__()", "uses .__subclasses__"),
        ("f.__globals__", "uses .__globals__"),
    ],
)
def test_attributes_between_double_underscores_are_unsafe(expression: str, rule: str) -> None:
    assert policy_breach(f"def f(x):\n    return {expression}") == Checked(Rejection.UNSAFE, rule)


@pytest.mark.parametrize(
    ("name", "module"),
    [("randint", "random"), ("date", "datetime"), ("datetime", "datetime"), ("stdin", "sys"), ("json", "json")],
)
def test_what_the_sandbox_has_without_an_import_is_unsafe_if_it_could_not_be_imported(name: str, module: str) -> None:
    rule = Checked(Rejection.UNSAFE, f"uses {name} of {module}")

    assert policy_breach(f"def f(x):\n    return {name}") == rule
    for mine in (f"{name} = 1", f"def {name}(): pass", f"class {name}: pass", f"for {name} in (): pass",
                 f"import math as {name}", f"def g({name}): pass", f"try: pass\nexcept OSError as {name}: pass",
                 f"match 1:\n    case [*{name}]: pass", f"match 1:\n    case {{**{name}}}: pass"):  # fmt: skip
        assert policy_breach(f"{mine}\ndef f(x):\n    return {name}") is None, mine


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n    def __init__(self): self.v = 1\ndef f(x):\n    return A().v",
        "def f(x):\n    return type(x).__name__",
        "f = lambda x: x",
        "def f(x):\n    evaluate = 1\n    return evaluate",
    ],
)
def test_ordinary_programs_break_no_rule(source: str) -> None:
    assert policy_breach(source) is None


@pytest.mark.parametrize("source", ["", "def g(x):\n    return x", "class A:\n    def f(self): pass", "f(1)"])
def test_a_program_must_define_f(source: str) -> None:
    assert policy_breach(source) == Checked(Rejection.INVALID, "defines no function f")


@pytest.mark.parametrize("source", ["def f(x:", "def f(x):\n    return '\0'", "f = " + "(" * 500 + ")" * 500, "\ud800"])
def test_what_python_cannot_parse_is_invalid(source: str) -> None:
    breach = policy_breach(source)

    assert breach is not None
    assert breach.rejection is Rejection.INVALID
    assert breach.detail.startswith("does not parse")


def test_an_escape_that_python_warns_about_is_no_error() -> None:
    assert policy_breach("def f(x):\n    return '\\d'") is None


# Self-play tasks

PAIRS = (Pair("1", "2"), Pair("2", "3"))


def graded(execution: Execution) -> Verdict:
    ((_, verdict),) = grade_pairs(ScriptedSandbox(lambda _: execution), [(ADD_ONE, PAIRS)])
    return verdict


def test_induction_takes_every_hidden_pair() -> None:
    assert graded(gave("2", "3")) == Verdict(Judgement.CORRECT)
    assert graded(gave("2", "4")) == Verdict(Judgement.WRONG, "f(2) gave 4, not 3")


def test_values_are_compared_with_their_types() -> None:
    assert graded(gave("2.0", "3")).judgement is Judgement.WRONG
    assert graded(gave("True", "3")).judgement is Judgement.WRONG


def test_a_program_that_fails_is_wrong_and_the_wrong_value_before_it_is_told_first() -> None:
    assert graded(failed(Status.TIMEOUT_CPU, "2")) == Verdict(Judgement.WRONG, "timeout_cpu: why")
    assert graded(failed(Status.TIMEOUT_CPU, "7")) == Verdict(Judgement.WRONG, "f(1) gave 7, not 2")


def test_a_fault_of_ours_is_no_answer() -> None:
    assert graded(NO_WORKER) == Verdict(Judgement.SANDBOX_FAULT, "no worker")


@pytest.mark.parametrize(
    ("text", "judgement"),
    [
        ("[1, 2]", Judgement.CORRECT),
        ("[1,2,]", Judgement.CORRECT),
        ("(1, 2)", Judgement.WRONG),
        ("[1.0, 2]", Judgement.WRONG),
        ("[1, 2", Judgement.MALFORMED),
        ("sorted([2, 1])", Judgement.MALFORMED),
    ],
)
def test_deduction_compares_literals_and_runs_nothing(text: str, judgement: Judgement) -> None:
    assert grade_deduction(text, "[1, 2]").judgement is judgement


def test_abduction_accepts_any_input_that_gives_the_output_and_passes_only_literals_in() -> None:
    sandbox = ScriptedSandbox(add_one)
    answers = [(ADD_ONE, "0x6", "7"), (ADD_ONE, "5", "7"), (ADD_ONE, "print(1)", "7"), (ADD_ONE, "1], [2", "7")]

    verdicts = dict(grade_abduction(sandbox, answers))

    assert {index: verdict.judgement for index, verdict in verdicts.items()} == {
        0: Judgement.CORRECT,
        1: Judgement.WRONG,
        2: Judgement.MALFORMED,
        3: Judgement.MALFORMED,
    }
    assert [job.inputs for job in sandbox.jobs] == [("6",), ("5",)]


# Streams


def test_results_come_while_later_answers_are_still_being_written() -> None:
    read: list[int] = []

    def written(count: int) -> Iterator[int]:
        for place in range(count):
            read.append(place)
            yield place

    sandbox = ScriptedSandbox(add_one)
    streams: list[Iterable[tuple[int, object]]] = [
        check(sandbox, (Program(ADD_ONE, ("1",)) for _ in written(3))),
        grade_pairs(sandbox, ((ADD_ONE, PAIRS) for _ in written(3))),
        grade_abduction(sandbox, ((ADD_ONE, "1", "2") for _ in written(3))),
    ]
    for stream in streams:
        read.clear()
        index, _ = next(iter(stream))
        assert (index, read) == (0, [0])


def test_nothing_expected_is_ever_sent_in() -> None:
    sandbox = ScriptedSandbox(lambda job: gave(*("0" for _ in job.inputs)))
    secret = "123454321"

    verdicts = [
        *grade_pairs(sandbox, [(ADD_ONE, [Pair("1", secret)])]),
        *grade_abduction(sandbox, [(ADD_ONE, "1", secret)]),
    ]

    assert [verdict.judgement for _, verdict in verdicts] == [Judgement.WRONG] * 2
    assert len(sandbox.jobs) == 2
    assert secret not in repr(sandbox.jobs)
