"""Values as text: one spelling per value, so that equal values are equal strings. The trusted side.

The grammar is Python's literals, narrowed: None, True, False, ints, floats by `repr` (bare nan, inf, -inf), str and bytes
by `repr`, lists, tuples, sets, frozensets and dicts with the entries of the last three sorted by their own text. The
worker inside the jail writes the same spelling from exact types (`gasp_rl.sandbox.worker`); a test holds them together.

Text that a model wrote is only ever parsed as a literal here, under budgets, never evaluated.
"""

import ast
import json
import math
import re
import warnings
from contextlib import suppress
from typing import Final

MAX_TEXT: Final = 20_000
MAX_DEPTH: Final = 64
MAX_DIGITS: Final = 4_300

_OPENERS, _CLOSERS = frozenset("([{"), frozenset(")]}")
_NUMBERS = re.compile(r"[-\[\]0-9., \n]*")
_STRINGS = re.compile(r"'(?:[^'\\]|\\.)*'" + r'|"(?:[^"\\]|\\.)*"', re.DOTALL)
_SIGNS = re.compile(r"(?:[-+~]\s*){8}")
_SPELLED = {"nan": math.nan, "inf": math.inf}


class _NotALiteralError(ValueError):
    """The text is no literal of the grammar, or too large."""


def canonical(text: str) -> str | None:
    """The one spelling of the literal that a model wrote; None if it is not a literal, or too large or too deep."""
    try:
        return spell(_parse(text))
    except _NotALiteralError:
        return None


def canonical_arguments(text: str) -> str | None:
    """The one spelling of an argument list without its parentheses: `[1,2] , 3` -> `[1, 2], 3`. None as above."""
    try:
        arguments = _parse(f"[{text}\n]")
        if not isinstance(arguments, list):
            return None  # such as `1], [2`
        return ", ".join(spell(argument) for argument in arguments)
    except _NotALiteralError:
        return None


def decode(text: str, max_text: int = 1 << 21) -> object:
    """The value of a spelling that the sandbox gave; raises ValueError if it is none."""
    try:
        return _parse(text, max_text)
    except _NotALiteralError as error:
        raise ValueError(f"not a value: {text[:60]!r}") from error


def spell(value: object, depth: int = 0, *, keep_order: bool = False) -> str:
    """Canonical text of a value of exact builtin types; raises ValueError if it is none, or too large or too deep.

    keep_order: entries of a dict as they are, since a program that is given them goes through them in that order.
    """
    if depth > MAX_DEPTH:
        raise _NotALiteralError
    kind = type(value)
    if value is None or kind is bool:
        return repr(value)
    if kind is int:
        assert isinstance(value, int)
        if value.bit_length() > MAX_DIGITS * 3:
            raise _NotALiteralError
        return repr(value)
    if kind in {float, str, bytes}:
        return repr(value)
    if isinstance(value, list) and kind is list:
        return "[" + ", ".join(spell(item, depth + 1, keep_order=keep_order) for item in value) + "]"
    if isinstance(value, tuple) and kind is tuple:
        inside = ", ".join(spell(item, depth + 1, keep_order=keep_order) for item in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, set | frozenset) and kind in {set, frozenset}:
        inside = ", ".join(sorted(spell(item, depth + 1, keep_order=keep_order) for item in value))
        braces = f"{{{inside}}}" if inside else ""
        return f"frozenset({braces})" if kind is frozenset else braces or "set()"
    if isinstance(value, dict) and kind is dict:
        keys, values = ([spell(x, depth + 1, keep_order=keep_order) for x in side] for side in (value, value.values()))
        entries = list(zip(keys, values, strict=True))
        return "{" + ", ".join(f"{k}: {v}" for k, v in (entries if keep_order else sorted(entries))) + "}"
    raise _NotALiteralError


def _parse(text: str, max_text: int = MAX_TEXT) -> object:
    # Python's own parser is recursive: what could exhaust it is refused before it sees the text.
    if len(text) > max_text or _depth(text) > MAX_DEPTH or _SIGNS.search(text):
        raise _NotALiteralError
    if _NUMBERS.fullmatch(text):  # long arrays: the JSON reader needs a tenth of the parser's time and memory
        with suppress(ValueError):  # `1.` is a literal, but not JSON
            return json.loads(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in what a model wrote
            tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise _NotALiteralError from error
    return _read(tree.body)


def _depth(text: str) -> int:
    """Upper bound of bracket nesting outside strings: a string of brackets is no nest."""
    deepest = depth = 0
    for character in _STRINGS.sub("", text):
        if character in _OPENERS:
            depth += 1
            deepest = max(deepest, depth)
        elif character in _CLOSERS:
            depth -= 1
    return deepest


def _read(node: ast.expr) -> object:
    match node:
        case ast.Constant(value=value) if type(value) in {int, float, str, bytes, bool, type(None)}:
            return value
        case ast.Name(id=name) if name in _SPELLED:
            return _SPELLED[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = _read(operand)
            if type(number) not in {int, float}:
                raise _NotALiteralError
            assert isinstance(number, int | float)
            return -number if isinstance(sign, ast.USub) else number
        case ast.List(elts=items):
            return [_read(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_read(item) for item in items)
        case ast.Set(elts=items):
            return _hashed(items)
        case ast.Call(func=ast.Name(id="set" | "frozenset" as kind), args=arguments, keywords=[]):
            return _called(kind, arguments)
        case ast.Dict(keys=keys, values=values):
            return _dict(keys, values)
        case _:
            raise _NotALiteralError


def _hashed(items: list[ast.expr]) -> set[object]:
    try:
        return {_read(item) for item in items}
    except TypeError as error:  # unhashable
        raise _NotALiteralError from error


def _called(kind: str, arguments: list[ast.expr]) -> object:
    match arguments:
        case []:
            return set() if kind == "set" else frozenset()
        case [ast.Set(elts=items)] if kind == "frozenset":
            return frozenset(_hashed(items))
        case _:
            raise _NotALiteralError


def _dict(keys: list[ast.expr | None], values: list[ast.expr]) -> dict[object, object]:
    read: dict[object, object] = {}
    for key, value in zip(keys, values, strict=True):
        if key is None:
            raise _NotALiteralError  # ** unpacking
        try:
            read[_read(key)] = _read(value)
        except TypeError as error:  # unhashable
            raise _NotALiteralError from error
    return read
