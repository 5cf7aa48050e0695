"""What a model wrote, made safe to show: on a page or in a terminal it can neither act nor disguise itself."""

import unicodedata
from collections.abc import Sequence

_MARKS_IN_A_ROW = 3  # enough for any real script; more is decoration that spills over its neighbours

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode categories without a glyph: control, format (bidirectional overrides, zero widths), surrogate, private."""


def visible(text: str) -> str:
    r"""The text with every invisible character spelled out: ESC as ␛, a right-to-left override as ⟨U+202E⟩.

    Newlines and tabs stay; `\r\n` becomes a newline.
    """
    text = text.replace("\r\n", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text

    shown: list[str] = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        if marks <= _MARKS_IN_A_ROW:
            shown.append(_spelled(character) if category in _INVISIBLE else character)
    return "".join(shown)


def shortened(text: str, characters: int, lines: int = 60) -> str:
    """At most so much of the text, and how much more there was."""
    kept = "\n".join(text[:characters].split("\n")[:lines])
    left = len(text) - len(kept)
    return f"{kept} … {left:,} more characters" if left > 0 else text


def one_line(text: str, characters: int) -> str:
    """The text on one line of at most so many characters, for lists and terminals."""
    line = " ".join(visible(text[: 4 * characters]).split())
    return line if len(line) <= characters else line[: characters - 1] + "…"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines of a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _spelled(character: str) -> str:
    code = ord(character)
    if character in "\n\t":
        return character
    if code < 0x20:
        return chr(0x2400 + code)  # the block of control pictures, in order
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
