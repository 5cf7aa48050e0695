"""The tokenizer of the embedded model, read off the world's own tables: nothing is trained.

Every stretch of a line of code, of a phrase or of a header between two constants is one token, digits are single
tokens, and every printable ASCII character is one too, so that any such text survives encoding. Text is cut into the
fewest tokens (a Unigram model whose pieces all cost the same).
"""

import string
from collections.abc import Iterator

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from gasp_rl.problems.microcode.operations import MAX_NUMBER, ON_LIST, ON_ROWS, OPERATIONS, REDUCERS, label
from gasp_rl.rollout import Axis
from gasp_rl.selfplay.prompts import micro

SIZE = 512
EOS = "<eos>"
UNKNOWN = "<unk>"

_CHARACTERS = [c for c in string.printable if c in {"\n", "\t"} or c.isprintable()]

_PROGRAM = ("def f(x):", "def g(x):", "def f(x):\n    #", "def g(x):\n    #", "\n    #", "\n    return x", "\n    return x\n",
            "\n    return x\ndef f(x):\n    return [g(r) for r in x]",
            "\n    return x\ndef f(x):\n    return [g(r) for r in x]\n")  # fmt: skip
_LISTS = (", ", ", -", "[-", "[[", "[[-", "[]", "[],", "], [", "], [-", "]]", ", []", ", [], [", *(f", {d}" for d in range(10)))  # fmt: skip
_SESSION = (">>> f([", ">>> f([-", ">>> f([[", ">>> f([[-", ">>> f([])\n", "])\n", "]])\n", "]\n", "]]\n", "[]\n",
            "]\n>>> f([", "]\n>>> f([-", "]]\n>>> f([[", "]]\n>>> f([[-")  # fmt: skip
_NUMBERED = tuple(f"{before}\n{place}: {after}" for place in range(2, 6)
                  for before, after in (("", "["), ("]", "["), ("]", "[-"), ("]]", "[["), ("]]", "[[-")))  # fmt: skip
"""Punctuation of programs, lists, Python sessions and blocks of inputs."""


def _templates() -> Iterator[str]:
    for operation in OPERATIONS + REDUCERS:
        yield "\n" + operation.line
        yield from operation.wordings
    yield from (ON_LIST, ON_ROWS, *map(label, range(1, MAX_NUMBER + 1)))
    yield from (micro.SOLVE, micro.PROGRAM, micro.RUN, micro.INVERT, micro.INPUT, micro.INPUTS, micro.GOALPOST,
                micro.PREVIOUS, micro.UNKNOWN, "\n" + micro.INPUT, "\n" + micro.PROGRAM,
                *(f"\n{micro.INPUTS}1: {after}" for after in ("[", "[-", "[[", "[[-")))  # fmt: skip
    yield from micro.PROPOSE.values()
    for direction in ("easier", "harder"):
        for axis in Axis:
            yield micro.TEACH.replace("{direction}", direction).replace("{axis}", axis.value)


def pieces() -> list[str]:
    """The vocabulary in order: special tokens, characters, fragments, and reserved places up to SIZE."""
    fragments = dict.fromkeys(
        part for template in _templates() for part in template.replace("{pairs}", "{k}").split("{k}")
    )
    fragments.update(dict.fromkeys(_PROGRAM + _LISTS + _SESSION + _NUMBERED))
    known = [UNKNOWN, EOS, *_CHARACTERS, *(part for part in fragments if len(part) > 1)]
    return known + [f"<reserved {place}>" for place in range(len(known), SIZE)]


def build() -> PreTrainedTokenizerFast:
    vocabulary = pieces()
    assert len(vocabulary) == SIZE, f"{len(vocabulary)} pieces do not fit {SIZE} places"
    # Special and reserved pieces cost more than any text is worth, so they never come out of plain text.
    costs = [(piece, -1e6 if piece.startswith("<") and len(piece) > 1 else -1.0) for piece in vocabulary]
    tokenizer = Tokenizer(models.Unigram(costs, unk_id=0))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token=EOS, pad_token=EOS, unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False, model_max_length=512)  # fmt: skip
