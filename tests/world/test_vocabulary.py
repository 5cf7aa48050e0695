"""The tokenizer of the embedded model: every text survives it, and the world's text comes out short."""

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from gasp_rl.problems.microcode.splits import load
from gasp_rl.selfplay.prompts.micro import MICRO
from gasp_rl.world import vocabulary

TOKENIZER = vocabulary.build()
PRINTABLE = [c for c in string.printable if c.isprintable() or c in "\n\t"]


@given(st.text(alphabet=PRINTABLE, max_size=80))
def test_printable_ascii_survives(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_the_text_of_the_world_survives_and_is_short() -> None:
    lengths: list[int] = []
    for problem in load("validation") + load("candidates"):
        for text in (problem.reference, problem.statement, MICRO.ask_problem(problem)):
            assert isinstance(text, str)
            tokens = TOKENIZER.encode(text)
            assert TOKENIZER.decode(tokens) == text
            assert vocabulary.UNKNOWN not in TOKENIZER.convert_ids_to_tokens(tokens)
        lengths.append(len(TOKENIZER.encode(problem.reference)))
    assert sum(lengths) / len(lengths) < 40


def test_a_digit_is_a_token_of_its_own_wherever_a_constant_stands() -> None:
    pieces = TOKENIZER.convert_ids_to_tokens(TOKENIZER.encode("on the list: (1) add 37 to each"))

    assert pieces == ["on the list:", " (1) ", "add ", "3", "7", " to each"]


def test_a_number_is_the_same_token_in_a_statement_and_in_a_comment() -> None:
    statement = TOKENIZER.encode("on the list: (1) sort ascending (2) reverse")
    program = TOKENIZER.encode(
        "def f(x):\n    # (1) sort ascending\n    x = sorted(x)\n    # (2) reverse\n    x = x[::-1]"
    )

    assert set(statement[1:]) <= set(program)


@pytest.mark.parametrize("name", ["<eos>", "<unk>"])
def test_special_tokens_have_their_places(name: str) -> None:
    assert TOKENIZER.convert_tokens_to_ids(name) == {"<unk>": 0, "<eos>": 1}[name]


def test_the_vocabulary_has_the_same_size_and_order_every_time() -> None:
    assert len(vocabulary.pieces()) == vocabulary.SIZE == len(set(vocabulary.pieces()))
    assert vocabulary.pieces() == vocabulary.pieces()


def test_a_saved_tokenizer_is_read_by_transformers(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)

    again = AutoTokenizer.from_pretrained(tmp_path)

    text = load("candidates")[0].reference
    assert again.encode(text) == TOKENIZER.encode(text)
    assert again.decode(again.encode(text)) == text
    assert again.eos_token_id == 1
