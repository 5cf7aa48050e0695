import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.report.text import one_line, shortened, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("beep\x07 back\x08 null\x00 del\x7f", "beep␇ back␈ null␀ del␡"),
        ("a\r\nb\rc", "a\nb␍c"),
        ("abc\u202edcba", "abc⟨U+202E⟩dcba"),
        ("zero\u200bwidth", "zero⟨U+200B⟩width"),
        ("lone \ud800 surrogate", "lone ⟨U+D800⟩ surrogate"),
        ("line\u2028separator", "line⟨U+2028⟩separator"),
        ("e" + "\u0301" * 500, "e" + "\u0301" * 3),
        ("größer, 日本語, 😀", "größer, 日本語, 😀"),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(max_size=200))
def test_nothing_invisible_is_left_but_line_breaks_and_tabs(text: str) -> None:
    left = {unicodedata.category(c) for c in visible(text) if c not in "\n\t"}

    assert left.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})


@given(st.text(max_size=200))
def test_spelling_out_twice_changes_nothing(text: str) -> None:
    assert visible(visible(text)) == visible(text)


def test_a_long_text_says_how_much_is_missing() -> None:
    assert shortened("x" * 5_000, 1_000) == "x" * 1_000 + " … 4,000 more characters"
    assert shortened("a\n" * 100, 1_000, lines=2) == "a\na … 197 more characters"
    assert shortened("short", 1_000) == "short"


@given(st.text(max_size=300), st.integers(10, 80))
def test_one_line_is_one_line_of_bounded_length(text: str, characters: int) -> None:
    line = one_line(text, characters)

    assert len(line) <= characters
    assert "\n" not in line
