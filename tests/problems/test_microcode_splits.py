"""The shipped problems: reproducible, solvable, and hard to pass with a program that is nearly right."""

from pathlib import Path

import pytest

from gasp_rl.data import MICROCODE
from gasp_rl.problem import Problem
from gasp_rl.problems.microcode import splits
from gasp_rl.problems.microcode.draw import output_of, read_input
from gasp_rl.problems.microcode.operations import RARE, Composition, behaviour, read_program, read_statement
from gasp_rl.problems.microcode.splits import is_irreducible, load, near_misses

SPLITS = ("train", "validation", "test", "candidates")


def composition_of(problem: Problem) -> Composition:
    composition = read_program(problem.reference)
    assert composition is not None
    return composition


def passes(composition: Composition, problem: Problem) -> bool:
    for test in problem.tests:
        value = read_input(test.input)
        assert value is not None
        if repr(output_of(composition, value)) != test.output:
            return False
    return True


@pytest.mark.slow
def test_the_shipped_files_are_what_the_command_writes_byte_for_byte(tmp_path: Path) -> None:
    splits.main(tmp_path)

    for split in SPLITS:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (MICROCODE / f"{split}.jsonl").read_bytes()


@pytest.mark.parametrize("split", SPLITS)
def test_every_problem_is_solved_by_its_reference_and_says_what_it_asks(split: str) -> None:
    for problem in load(split):
        reference, told = composition_of(problem), read_statement(problem.statement)

        assert told is not None
        assert (told.names, told.rows) == (reference.names, reference.rows)
        assert passes(reference, problem)
        assert len(problem.public_tests) == 2
        assert len(problem.hidden_tests) >= 6
        assert problem.difficulty == f"depth-{reference.depth}"


@pytest.mark.parametrize("split", SPLITS)
def test_a_program_one_slip_away_fails_unless_it_is_the_same_function(split: str) -> None:
    for problem in load(split):
        reference = composition_of(problem)
        whole = behaviour(reference)
        assert not any(passes(miss, problem) for miss in near_misses(reference) if behaviour(miss) != whole)


def test_no_step_of_a_held_out_problem_is_idle() -> None:
    for split in SPLITS[1:]:
        assert all(is_irreducible(composition_of(problem)) for problem in load(split))


def test_no_function_of_two_steps_or_more_is_in_two_places() -> None:
    seen: dict[tuple[str, ...], str] = {}
    for split in SPLITS:
        for problem in load(split):
            composition = composition_of(problem)
            if composition.depth > 1:
                assert seen.setdefault(behaviour(composition), problem.id) == problem.id


def test_edges_are_among_the_hidden_tests() -> None:
    for problem in load("candidates"):
        inputs = [test.input for test in problem.hidden_tests]
        assert "[]" in inputs
        assert any(text.count(",") == 0 and text.strip("[]") for text in inputs) or composition_of(problem).rows


def test_candidates_are_deep_and_rich_in_rare_operations() -> None:
    rare = {operation.name for operation in RARE}
    candidates = [composition_of(problem) for problem in load("candidates")]

    assert len(candidates) >= 150
    assert min(c.depth for c in candidates) >= 5
    assert sum(len(rare.intersection(c.names)) for c in candidates) / sum(c.depth for c in candidates) > 0.5


def test_the_train_split_has_no_rare_operation() -> None:
    rare = {operation.name for operation in RARE}

    assert not any(rare.intersection(composition_of(problem).names) for problem in load("train"))


def test_every_goalpost_is_one_of_the_candidates() -> None:
    assert set(load("goalposts")) <= set(load("candidates"))
