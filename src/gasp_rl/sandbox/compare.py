"""Is what a program gave what was expected? The rules of `gasp_rl.problem.Comparison`, on values and on standard output."""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation

from gasp_rl.problem import CompareKind, Comparison


def same_output(got: str, expected: str, compare: Comparison) -> bool:
    """Standard output against what was expected.

    EXACT is LiveCodeBench's rule: as many lines after stripping, each equal after stripping, or token for token the
    same decimal numbers. FLOAT_TOKENS: as many tokens, each equal or within tolerance.
    """
    if compare.kind is CompareKind.FLOAT_TOKENS:
        return _all_same(got.split(), expected.split(), lambda a, b: a == b or _close(_number(a), _number(b), compare))
    lines = [text.strip().split("\n") for text in (got, expected)]
    return _all_same(lines[0], lines[1], lambda a, b: a.strip() == b.strip() or _same_decimals(a, b))


def same_value(got: object, expected: object, compare: Comparison) -> bool:
    """A returned value against what was expected, by `compare`."""
    match compare.kind:
        case CompareKind.FLOAT:
            return _close_values(got, expected, compare)
        case CompareKind.SET:
            return _as_set(got) is not None and _as_set(got) == _as_set(expected)
        case CompareKind.TRUTHY:
            return bool(got) == bool(expected)
        case _:
            return got == expected


def _all_same(got: Sequence[str], expected: Sequence[str], same: Callable[[str, str], bool]) -> bool:
    return len(got) == len(expected) and all(same(a, b) for a, b in zip(got, expected, strict=True))


def _same_decimals(got: str, expected: str) -> bool:
    try:
        return [Decimal(token) for token in got.split()] == [Decimal(token) for token in expected.split()]
    except InvalidOperation:
        return False


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _close(got: float | None, expected: float | None, compare: Comparison) -> bool:
    if got is None or expected is None:
        return False
    if got == expected:
        return True
    try:
        return math.isfinite(expected) and abs(got - expected) <= compare.atol + compare.rtol * abs(expected)
    except OverflowError:  # an int beyond all floats is close to nothing else
        return False


def _close_values(got: object, expected: object, compare: Comparison) -> bool:
    if isinstance(got, list | tuple) and isinstance(expected, list | tuple):
        return len(got) == len(expected) and all(
            _close_values(a, b, compare) for a, b in zip(got, expected, strict=True)
        )
    if _is_number(got) and _is_number(expected):
        assert isinstance(got, int | float)
        assert isinstance(expected, int | float)
        return _close(got, expected, compare)
    return got == expected


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_set(value: object) -> frozenset[object] | None:
    try:
        return frozenset(value) if isinstance(value, list | tuple | set | frozenset | dict | str) else None
    except TypeError:  # unhashable items
        return None
