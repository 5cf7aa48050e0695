from collections.abc import Sequence

import torch
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.policy.stops import StopStrings, may_complete

PIECES = ["", "a", "b", "ab", "ba", "aab", " ", " b", "b ", "\n"]


class Pieces:
    """A tokenizer whose tokens are PIECES."""

    eos = 0

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(PIECES.index(letter) for letter in text)

    def chat(self, messages: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        return self.encode("".join(content for _, content in messages))

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(PIECES[token] for token in tokens)


stop_strings = st.lists(st.text("ab \n", min_size=1, max_size=4), min_size=1, max_size=3).map(tuple)
texts = st.lists(st.integers(0, len(PIECES) - 1), min_size=1, max_size=10)


@given(texts, stop_strings)
def test_no_token_completes_a_stop_string_without_being_suspected(tokens: list[int], stop: tuple[str, ...]) -> None:
    before, after = Pieces().decode(tokens[:-1]), Pieces().decode(tokens)

    if any(text in after for text in stop) and not any(text in before for text in stop):
        assert may_complete(PIECES[tokens[-1]], stop)


@given(texts.filter(all), stop_strings)
def test_looking_at_the_end_of_a_text_is_enough(tokens: list[int], stop: tuple[str, ...]) -> None:
    table = StopStrings(Pieces(), len(PIECES), torch.device("cpu"))

    if not any(text in Pieces().decode(tokens[:-1]) for text in stop):
        assert table.reached(tokens, stop) == any(text in Pieces().decode(tokens) for text in stop)


def test_each_row_is_held_to_its_own_stop_strings() -> None:
    table = StopStrings(Pieces(), len(PIECES), torch.device("cpu"))
    numbers = torch.tensor([table.number(()), table.number(("b",)), table.number(("\n",)), table.number(("b",))])

    newline, b = PIECES.index("\n"), PIECES.index("b")

    assert table.suspicious(numbers, torch.tensor([b, b, b, newline])).tolist() == [False, True, False, False]
    assert table.suspicious(numbers, torch.tensor([newline] * 4)).tolist() == [False, False, True, False]


def test_part_of_a_character_is_suspected_only_where_characters_have_parts() -> None:
    assert may_complete("\N{REPLACEMENT CHARACTER}", ("é",))
    assert not may_complete("\N{REPLACEMENT CHARACTER}", ("e",))
