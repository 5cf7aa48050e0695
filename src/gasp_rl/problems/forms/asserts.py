"""Tests that are written as Python asserts, read as inputs and outputs. Nothing is run: what is not plain is refused.

Read are `assert f(1, [2]) == 3` and its kin: `is`, `not f(x)`, `set(f(x)) == {1}`, `tuple(f(x)) == (1, 2)`,
`abs(f(x) - 0.5) < 1e-6`, `math.isclose(f(x), 0.5, rel_tol=1e-3)`, with values that are literals, names of such or
arithmetic of them; the same in a loop over a range; and EvalPlus's `inputs = [...]`, `results = [...]` and a loop that
asserts one on the other.
"""

import ast
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeAlias

from gasp_rl.problem import CompareKind, Comparison, TestCase
from gasp_rl.sandbox.values import spell

MAX_FOLDED = 100_000
"""Characters, entries or bits of a value that arithmetic may make."""

MAX_STEPS = 1000
"""Of a loop over a range."""

EXACT = Comparison(CompareKind.EXACT)
SET = Comparison(CompareKind.SET)
TRUTHY = Comparison(CompareKind.TRUTHY)
SEQUENCE = Comparison(CompareKind.FLOAT)
"""Tolerance 0: lists and tuples are the same, all else is as in EXACT."""

EVALPLUS_RTOL = 1e-7
EVALPLUS_ATOL = 1e-6
"""Of its assertion, where the expected value is made of floats and the task names no tolerance."""

Called: TypeAlias = Callable[[str], bool]
"""Is this the name of the function that is tested?"""


class NotPlainError(Exception):
    """The test cannot be said as input and output; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Asserted:
    """One assert."""

    arguments: tuple[object, ...]
    expected: object
    compare: Comparison


def read_asserts(body: Sequence[ast.stmt], called: Called) -> list[Asserted]:
    """What the statements of a test assert about calls of the function. Raises NotPlainError at anything else that counts."""
    assigned: dict[str, ast.expr] = {}
    found: list[Asserted] = []
    for statement in body:
        match statement:
            case ast.Assert(test=ast.Constant(value=True)):
                pass
            case ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right])) if _same(left, right):
                pass  # what any program passes
            case ast.Assert(test=test):
                found.append(_assertion(Renamed(assigned).visit(deepcopy(test)), called))
            case (
                ast.Import() | ast.ImportFrom() | ast.Pass() | ast.FunctionDef() | ast.Expr(ast.Constant() | ast.Name())
            ):
                pass
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                assigned[name] = value
            case ast.For(target=ast.Name(id=name), iter=numbers, body=inner) if _asserts_over_range(statement):
                for number in _steps(numbers):
                    step = Renamed({name: ast.Constant(number)})
                    found += read_asserts([step.visit(deepcopy(one)) for one in inner], called)
            case ast.For():
                found += _evalplus_loop(statement, assigned, called)
            case ast.Expr(ast.Call(func=ast.Name(id="check"))):
                pass
            case _:
                raise NotPlainError(f"{_shown(statement)} is no plain assert")
    return found


class Renamed(ast.NodeTransformer):
    """Puts values in the place of the names that they were given."""

    def __init__(self, values: dict[str, ast.expr]) -> None:
        self._values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._values.get(node.id, node)


def as_tests(asserted: Sequence[Asserted]) -> tuple[tuple[TestCase, ...], Comparison]:
    """Tests in Python literals, and the one comparison that they share; raises NotPlainError if there is none."""
    try:
        tests = tuple(
            TestCase("\n".join(spell(argument, keep_order=True) for argument in one.arguments), spell(one.expected))
            for one in asserted
        )
    except ValueError as error:
        raise NotPlainError("a value that the sandbox does not give") from error
    return tests, _shared([one.compare for one in asserted])


def _shared(comparisons: Sequence[Comparison]) -> Comparison:
    """The strictest comparison that passes whatever these pass."""
    kinds = {comparison.kind for comparison in comparisons}
    if CompareKind.FLOAT in kinds <= {CompareKind.EXACT, CompareKind.FLOAT}:
        return Comparison(CompareKind.FLOAT, max(c.atol for c in comparisons), max(c.rtol for c in comparisons))
    if len(kinds) > 1:
        raise NotPlainError(f"its asserts compare in different ways: {', '.join(sorted(kinds))}")
    return comparisons[0] if comparisons else EXACT


def _assertion(test: ast.expr, called: Called) -> Asserted:
    match test:
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]):
            if not _mentions(left, called):
                left, right = right, left
            return _equality(left, right, called)
        case ast.Compare(
            left=ast.Call(func=ast.Name(id="abs"), args=[ast.BinOp(left=left, op=ast.Sub(), right=right)]),
            ops=[ast.Lt() | ast.LtE()],
            comparators=[tolerance],
        ):
            close = Comparison(CompareKind.FLOAT, atol=_number(tolerance))
            return Asserted(_arguments(left, called), fold(right), close)
        case ast.Call(func=ast.Attribute(attr="isclose") | ast.Name(id="isclose"), args=[left, right], keywords=named):
            tolerances = {one.arg: _number(one.value) for one in named}
            close = Comparison(
                CompareKind.FLOAT, tolerances.get("abs_tol", 0.0), tolerances.get("rel_tol", 1e-9)
            )  # the defaults of math.isclose
            return Asserted(_arguments(left, called), fold(right), close)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return Asserted(_arguments(operand, called), expected=False, compare=TRUTHY)
        case _:
            return Asserted(_arguments(test, called), expected=True, compare=TRUTHY)


def _equality(left: ast.expr, right: ast.expr, called: Called) -> Asserted:
    match left:
        case ast.Call(func=ast.Name(id="set" | "frozenset"), args=[inner], keywords=[]):
            return Asserted(_arguments(inner, called), fold(right), SET)
        case ast.Call(func=ast.Name(id="tuple" | "list"), args=[inner], keywords=[]):
            return Asserted(_arguments(inner, called), fold(right), SEQUENCE)
        case _:
            return Asserted(_arguments(left, called), fold(right), EXACT)


def _evalplus_loop(loop: ast.For, assigned: dict[str, ast.expr], called: Called) -> Iterator[Asserted]:
    """`for i, (inp, exp) in enumerate(zip(inputs, results)): assertion(f(*inp), exp, atol)`."""
    match loop.body:
        case [ast.Expr(ast.Call(
            func=ast.Name(id="assertion"),
            args=[ast.Call(func=ast.Name(id=name), args=[ast.Starred()], keywords=[]), ast.Name(), tolerance],
        ))] if called(name) and {"inputs", "results"} <= assigned.keys():  # fmt: skip
            pass
        case _:
            raise NotPlainError(f"{_shown(loop)} is no plain assert")
    inputs, results = fold(assigned["inputs"]), fold(assigned["results"])
    if not isinstance(inputs, list) or not isinstance(results, list) or len(inputs) != len(results):
        raise NotPlainError("inputs and results are no two lists of the same length")
    atol = _number(tolerance)
    for arguments, expected in zip(inputs, results, strict=True):
        if not isinstance(arguments, list | tuple):
            raise NotPlainError("an entry of inputs is no list of arguments")
        near = atol or (EVALPLUS_ATOL if _made_of_floats(expected) else 0.0)
        compare = Comparison(CompareKind.FLOAT, near, EVALPLUS_RTOL) if near else EXACT
        yield Asserted(tuple(arguments), expected, compare)


def _made_of_floats(value: object) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def _arguments(call: ast.expr, called: Called) -> tuple[object, ...]:
    match call:
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if called(name):
            return tuple(fold(argument) for argument in arguments)
        case _:
            raise NotPlainError(f"{_shown(call)} is no plain call of the function")


def _mentions(node: ast.expr, called: Called) -> bool:
    return any(isinstance(inner, ast.Name) and called(inner.id) for inner in ast.walk(node))


def _same(left: ast.expr, right: ast.expr) -> bool:
    return ast.dump(left) == ast.dump(right)


def _asserts_over_range(loop: ast.For) -> bool:
    return (
        isinstance(loop.iter, ast.Call)
        and isinstance(loop.iter.func, ast.Name)
        and loop.iter.func.id == "range"
        and all(isinstance(inner, ast.Assert) for inner in loop.body)
    )


def _steps(numbers: ast.expr) -> list[int]:
    value = fold(numbers)
    return [number for number in value if isinstance(number, int)] if isinstance(value, list) else []


def _number(node: ast.expr) -> float:
    value = fold(node)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise NotPlainError(f"{_shown(node)} is no tolerance")
    return float(value)


def fold(node: ast.expr) -> object:
    """The value of a literal, of arithmetic on literals, or of one turned into a list, tuple or set."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, MemoryError, RecursionError):
        pass
    try:
        return _folded(node)
    except (TypeError, ArithmeticError, RecursionError, ValueError) as error:
        raise NotPlainError(f"{_shown(node)} is no plain value") from error


def _folded(node: ast.expr) -> object:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id="inf"):
            return float("inf")
        case ast.List(elts=items):
            return [_folded(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_folded(item) for item in items)
        case ast.Set(elts=items):
            return {_folded(item) for item in items}
        case ast.Dict(keys=keys, values=values) if all(keys):
            return {_folded(key): _folded(value) for key, value in zip(keys, values, strict=True) if key}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            number = _folded(operand)
            if isinstance(number, int | float | complex):
                return -number
        case ast.BinOp(left=left, op=operator, right=right):
            return _arithmetic(_folded(left), operator, _folded(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if (
            name in CONVERSIONS and len(arguments) < 2
        ):
            return CONVERSIONS[name](*(_folded(argument) for argument in arguments))
        case ast.Call(func=ast.Name(id="range"), args=arguments, keywords=[]):
            return _range([_folded(argument) for argument in arguments])
        case _:
            pass
    raise ValueError


CONVERSIONS: dict[str, Callable[..., object]] = {
    "list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "float": float, "str": str,
}  # fmt: skip


def _range(arguments: list[object]) -> list[int]:
    numbers = range(*(argument for argument in arguments if isinstance(argument, int)))
    if len(numbers) > MAX_STEPS:
        raise ValueError
    return list(numbers)


def _arithmetic(left: object, operator: ast.operator, right: object) -> object:
    """Of numbers; `+` also of texts and sequences. Bounded: what it makes is no larger than what one could write down."""
    if isinstance(left, int | float) and isinstance(right, int | float):
        match operator:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult() if _bits(left) + _bits(right) < MAX_FOLDED:
                return left * right
            case ast.Div():
                return left / right
            case ast.FloorDiv():
                return left // right
            case ast.Mod():
                return left % right
            case ast.Pow() if 0 <= right < MAX_FOLDED and _bits(left) * right < MAX_FOLDED:
                return left**right
    if isinstance(operator, ast.Add):
        if isinstance(left, str) and isinstance(right, str):
            return left + right
        if isinstance(left, list) and isinstance(right, list):
            return left + right
        if isinstance(left, tuple) and isinstance(right, tuple):
            return left + right
    if (
        isinstance(operator, ast.Mult)
        and isinstance(left, str | list | tuple)
        and isinstance(right, int)
        and len(left) * right < MAX_FOLDED
    ):
        return left * right
    raise ValueError


def _bits(number: float) -> int:
    return number.bit_length() if isinstance(number, int) else 64


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return f"`{text[:60]}...`" if len(text) > 60 else f"`{text}`"
