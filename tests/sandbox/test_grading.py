"""Does a program solve a problem? Run by a sandbox that knows the programs by heart, except where it says otherwise."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gasp_rl.config import GradeIsolation, GradeSemantics, GradingConfig
from gasp_rl.errors import ConfigError
from gasp_rl.problem import Encoding, IoMode, Problem, TestCase
from gasp_rl.rollout import Judgement
from gasp_rl.sandbox.base import Execution, Job, Result, Status
from gasp_rl.sandbox.grading import Grade, Judged, grade, grade_problems
from gasp_rl.sandbox.judge import Verdict
from gasp_rl.sandbox.scripted import ScriptedSandbox, failed, gave

ADD_ONE = "def f(x):\n    return x + 1"
NO_WORKER = Execution(Status.INFRA, (), "no worker")


def add_one(job: Job) -> Execution:
    return gave(*(str(int(text) + 1) for text in job.inputs))


def problem(
    *tests: tuple[str, str],
    io_mode: IoMode = IoMode.FUNCTIONAL,
    encoding: Encoding = Encoding.PYLITERAL,
    name: str = "p",
) -> Problem:
    cases = tuple(TestCase(given, wanted) for given, wanted in tests)
    return Problem(name, "", cases[:1], cases[1:], io_mode, encoding)


def judged(one: Problem, execute: Callable[[Job], Execution]) -> Verdict:
    ((_, verdict),) = grade_problems(ScriptedSandbox(execute), [("source", one)])
    return verdict


THREE = problem(("1", "2"), ("2", "3"), ("3", "4"))


def test_a_program_must_pass_every_public_and_hidden_test() -> None:
    assert judged(THREE, add_one) == Verdict(Judgement.CORRECT)
    assert judged(THREE, lambda job: gave(*("2" for _ in job.inputs))) == Verdict(
        Judgement.WRONG, "test 2 of 3: got '2', expected '3'"
    )


def test_a_test_that_fails_is_run_once_more_alone_and_that_run_decides() -> None:
    """A program that spoils its own state between tests is right when each test has a process of its own."""
    sandbox = ScriptedSandbox(lambda job: add_one(job) if len(job.inputs) == 1 else gave("2", "0", "0"))

    ((_, verdict),) = grade_problems(sandbox, [("source", THREE)])

    assert verdict == Verdict(Judgement.CORRECT)
    assert [job.inputs for job in sandbox.jobs] == [("1", "2", "3"), ("2",), ("3",)]


def test_after_a_failure_was_none_alone_all_later_tests_are_run_alone_at_once() -> None:
    five = problem(*((str(n), str(n + 1)) for n in range(5)))
    sandbox = ScriptedSandbox(lambda job: add_one(job) if job.alone else failed(Status.CRASH, "1"))

    ((_, verdict),) = grade_problems(sandbox, [("source", five)])

    assert verdict == Verdict(Judgement.CORRECT)
    assert [job.inputs for job in sandbox.jobs] == [("0", "1", "2", "3", "4"), ("1",), ("2", "3", "4")]
    assert [job.alone for job in sandbox.jobs] == [False, True, True]


def test_a_broken_result_channel_is_looked_at_again_in_a_process_for_the_test() -> None:
    broken = Execution(Status.PROTOCOL, (), "it tampered with the result channel")

    assert judged(THREE, lambda job: add_one(job) if job.alone else broken).judgement is Judgement.CORRECT
    assert judged(THREE, lambda _: broken).detail.startswith("test 1 of 3: protocol")


def test_with_a_process_per_test_no_two_tests_share_one() -> None:
    sandbox = ScriptedSandbox(add_one)

    ((_, verdict),) = grade_problems(sandbox, [("source", THREE)], GradingConfig(GradeIsolation.TEST))

    assert verdict == Verdict(Judgement.CORRECT)
    assert [job.inputs for job in sandbox.jobs] == [("1",), ("2", "3")]
    assert all(job.alone for job in sandbox.jobs)


def test_with_a_process_per_test_a_wrong_first_test_ends_it() -> None:
    sandbox = ScriptedSandbox(lambda _: gave("7"))

    ((_, verdict),) = grade_problems(sandbox, [("source", THREE)], GradingConfig(GradeIsolation.TEST))

    assert verdict == Verdict(Judgement.WRONG, "test 1 of 3: got '7', expected '2'")
    assert len(sandbox.jobs) == 1


@pytest.mark.parametrize("isolation", GradeIsolation)
def test_every_test_is_counted_when_asked_for(isolation: GradeIsolation) -> None:
    def only_odd(job: Job) -> Execution:
        results = [Result(Status.OK, str(int(x) + 1)) if int(x) % 2 else Result(Status.MEMORY) for x in job.inputs]
        return Execution(Status.MEMORY, tuple(results), "", 0.25, "L3")

    ((_, found),) = grade(ScriptedSandbox(only_odd), [("source", THREE)], GradingConfig(isolation), every=True)

    assert [tested.outcome for tested in found.tests if tested] == [Judged.PASS, Status.MEMORY, Judged.PASS]
    assert (found.outcome, found.passed, found.level) == (Status.MEMORY, 2, "L3")
    assert found.cpu_seconds >= 0.5


def test_a_program_that_cannot_be_loaded_is_run_once() -> None:
    broken = Execution(Status.COMPILE_ERROR, (), "SyntaxError: no")
    sandbox = ScriptedSandbox(lambda _: broken)

    ((_, found),) = grade(sandbox, [("source", THREE)], every=True)

    assert found == Grade(Status.COMPILE_ERROR, found.tests, "test 1 of 3: compile_error: SyntaxError: no")
    assert len(sandbox.jobs) == 1


def test_programs_on_real_problems_have_limits_of_their_own() -> None:
    sandbox = ScriptedSandbox(add_one)

    list(grade_problems(sandbox, [("source", THREE)], GradingConfig(GradeIsolation.TEST)))

    assert {job.limits for job in sandbox.jobs} == {GradingConfig().limits}


def test_livecodebench_runs_all_tests_in_one_process_so_no_other_can_be_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"sandbox\.grading\.isolation must be program with lcb"):
        GradingConfig(GradeIsolation.TEST, GradeSemantics.LCB)


def test_a_first_test_that_fails_has_failed_alone_already() -> None:
    sandbox = ScriptedSandbox(lambda _: failed(Status.RUNTIME_ERROR))

    ((_, verdict),) = grade_problems(sandbox, [("source", THREE)])

    assert verdict == Verdict(Judgement.WRONG, "test 1 of 3: runtime_error: why")
    assert len(sandbox.jobs) == 1


def test_a_run_alone_that_fails_too_says_which_test_it_was() -> None:
    def stops_at_two(job: Job) -> Execution:
        return add_one(job) if "2" not in job.inputs else failed(Status.TIMEOUT_CPU, *("2" for _ in job.inputs[:-2]))

    assert judged(THREE, stops_at_two) == Verdict(Judgement.WRONG, "test 2 of 3: timeout_cpu: why")


@pytest.mark.parametrize("alone", [False, True])
def test_a_fault_of_ours_in_either_run_of_a_problem_is_no_answer(alone: bool) -> None:
    def execute(job: Job) -> Execution:
        return NO_WORKER if alone == (len(job.inputs) == 1) else gave("2", "0")

    assert judged(THREE, execute) == Verdict(Judgement.SANDBOX_FAULT, "no worker")


ALL_TIME = GradingConfig().limits.cpu_seconds


def given_up(*values: str) -> Execution:
    """The time was up at the test after these."""
    results = (*(Result(Status.OK, value) for value in values), Result(Status.TIMEOUT_CPU))
    return Execution(Status.TIMEOUT_CPU, results)


def in_haste(job: Job) -> bool:
    assert job.limits is not None
    return job.limits.cpu_seconds < ALL_TIME


def test_a_program_that_is_wrong_on_one_test_is_not_waited_for_on_the_next() -> None:
    sandbox = ScriptedSandbox(lambda job: given_up("2", "0") if in_haste(job) else gave("0"))

    ((_, verdict),) = grade_problems(sandbox, [("source", THREE)])

    assert verdict == Verdict(Judgement.WRONG, "test 2 of 3: got '0', expected '3'")
    assert [job.inputs for job in sandbox.jobs] == [("1", "2", "3"), ("2",)]


def test_a_slow_program_that_is_wrong_on_nothing_yet_is_run_with_all_its_time() -> None:
    sandbox = ScriptedSandbox(lambda job: given_up("2", "3") if in_haste(job) else add_one(job))

    ((_, verdict),) = grade_problems(sandbox, [("source", THREE)])

    assert verdict == Verdict(Judgement.CORRECT)
    assert [(job.inputs, in_haste(job)) for job in sandbox.jobs] == [(("1", "2", "3"), True), (("1", "2", "3"), False)]


KINDS = st.sampled_from(["right", "wrong", "error"])


@settings(max_examples=400)
@given(
    together=st.lists(KINDS, min_size=1, max_size=4),
    alone=st.lists(KINDS, min_size=4, max_size=4),
    seen=st.integers(0, 4),
)
@example(together=["right", "wrong", "right"], alone=["right", "right", "wrong", "right"], seen=2)
def test_how_much_was_seen_in_haste_does_not_change_the_verdict(
    together: list[str], alone: list[str], seen: int
) -> None:
    many = problem(*((str(n), str(n + 1)) for n in range(len(together))))
    alone[0] = together[0]  # nothing ran before it

    def execute(job: Job, until: int) -> Execution:
        kinds = [(alone if job.alone else together)[int(text)] for text in job.inputs]
        stop = kinds.index("error") if "error" in kinds else len(kinds)
        values = [str(int(text) + (kind == "right")) for text, kind in zip(job.inputs, kinds, strict=True)][:stop]
        if in_haste(job) and until < len(kinds) and until <= stop:
            return given_up(*values[:until])
        return gave(*values) if stop == len(kinds) else failed(Status.RUNTIME_ERROR, *values)

    assert judged(many, lambda job: execute(job, seen)) == judged(many, lambda job: execute(job, len(together)))


def test_a_functional_problem_is_called_by_its_name_and_a_stdin_problem_is_a_program() -> None:
    sandbox = ScriptedSandbox(lambda job: gave(*("2" for _ in job.inputs)))
    stdin = problem(("1\n", "2\n"), io_mode=IoMode.STDIN, encoding=Encoding.TEXT, name="q")

    list(grade_problems(sandbox, [("a", problem(("1", "2"))), ("b", stdin)]))

    assert [(job.entry, job.inputs) for job in sandbox.jobs] == [("f", ("1",)), ("", ("1\n",))]


def test_one_json_value_per_line_becomes_one_argument_each() -> None:
    sandbox = ScriptedSandbox(lambda _: gave("[True, None, 'a']"))
    one = problem(('[1, null]\n{"a": true}', '[true, null, "a"]'), encoding=Encoding.JSON)

    ((_, verdict),) = grade_problems(sandbox, [("source", one)])

    assert verdict.judgement is Judgement.CORRECT
    assert sandbox.jobs[0].inputs == ("[1, None], {'a': True}",)


@pytest.mark.parametrize(
    ("encoding", "got", "right"),
    [
        (Encoding.JSON, "(1, 2)", True),  # LiveCodeBench: a tuple at the top counts as a list
        (Encoding.JSON, "[(1, 2)]", False),
        (Encoding.JSON, "[1, 2]", True),
        (Encoding.PYLITERAL, "(1, 2)", False),
        (Encoding.PYLITERAL, "[1, 2]", True),
        (Encoding.JSON, "[1.0, 2]", True),  # == after decoding
        (Encoding.JSON, "not a value", False),
    ],
)
def test_a_tuple_counts_as_a_list_only_at_the_top_and_only_in_json(encoding: Encoding, got: str, right: bool) -> None:
    wanted = "[[1, 2]]" if got.startswith("[(") else "[1, 2]"

    verdict = judged(problem(("1", wanted), encoding=encoding), lambda _: gave(got))

    assert verdict.judgement is (Judgement.CORRECT if right else Judgement.WRONG)


def test_results_come_while_later_answers_are_still_being_written() -> None:
    read: list[int] = []

    def written(count: int) -> Iterator[tuple[str, Problem]]:
        for place in range(count):
            read.append(place)
            yield ADD_ONE, THREE

    index, _ = next(iter(grade_problems(ScriptedSandbox(add_one), written(3))))

    assert (index, read) == (0, [0])


@pytest.mark.parametrize("semantics", GradeSemantics)
def test_nothing_expected_is_ever_sent_in(semantics: GradeSemantics) -> None:
    sandbox = ScriptedSandbox(lambda job: gave(*("0" for _ in job.inputs)))
    two = problem(("1", "0"), ("2", "123454321"))

    ((_, verdict),) = grade_problems(sandbox, [(ADD_ONE, two)], GradingConfig(semantics=semantics))

    assert verdict.judgement is Judgement.WRONG
    assert len(sandbox.jobs) == (2 if semantics is GradeSemantics.FAITHFUL else 1)  # the second runs alone too
    assert "123454321" not in repr(sandbox.jobs)
