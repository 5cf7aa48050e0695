"""Find stop strings without reading every text at every step: only some tokens can complete one."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gasp_rl.policy.engine import Tokenizer


class StopStrings:
    """For each tuple of stop strings, the tokens after which a text may have just completed one."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, device: torch.device) -> None:
        self._tokenizer = tokenizer
        self.vocabulary = vocabulary
        self._pieces: list[str] = []
        self._numbers: dict[tuple[str, ...], int] = {(): 0}
        self._suspicious = torch.zeros(1, vocabulary, dtype=torch.bool, device=device)

    def number(self, stop: tuple[str, ...]) -> int:
        """The row of the table for these stop strings."""
        if stop not in self._numbers:
            self._numbers[stop] = len(self._numbers)
            row = torch.tensor([may_complete(piece, stop) for piece in self._texts()], device=self._suspicious.device)
            self._suspicious = torch.cat([self._suspicious, row[None]])
        return self._numbers[stop]

    def suspicious(self, numbers_N: Tensor, tokens_N: Tensor) -> Tensor:
        """Whether each row's new token may have completed a stop string of its own."""
        return self._suspicious[numbers_N, tokens_N]

    def may_have(self, token: int, stop: tuple[str, ...]) -> bool:
        """The same for one row and any stop strings."""
        number = self.number(stop)
        return bool(self._suspicious[number, token])

    def reached(self, tokens: Sequence[int], stop: tuple[str, ...]) -> bool:
        """Whether the last token completed a stop string.

        A token holds a byte or more, so the string's length in bytes says how many tokens to read; a few more for
        tokens without text and for decoders that drop a leading space.
        """
        longest = max(len(text.encode()) for text in stop)
        tail = self._tokenizer.decode(tokens[-longest - 4 :])
        return any(text in tail for text in stop)

    def _texts(self) -> list[str]:
        if not self._pieces:
            self._pieces = [self._tokenizer.decode([token]) for token in range(self.vocabulary)]
        return self._pieces


def may_complete(piece: str, stop: Sequence[str]) -> bool:
    """Whether some text that lacks these strings can hold one after this token.

    True if the token holds the string, or starts with an end of it. A piece decoded alone may have lost its leading
    space (SentencePiece), and a piece of a multi-byte character reads as a replacement character.
    """
    return any(
        text in form or any(form.startswith(text[k:]) for k in range(1, len(text)))
        for text in stop
        for form in (piece, " " + piece)
    ) or ("\N{REPLACEMENT CHARACTER}" in piece and not all(text.isascii() for text in stop))
