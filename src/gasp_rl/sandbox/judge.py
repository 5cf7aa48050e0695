"""Was it right? Checking proposals and grading answers of self-play, outside the jail, on what the sandbox reports.

Expected values live here and are never sent in. Every function streams: it reads its programs as far as the sandbox has
room, so that whoever still samples them works while earlier ones run, and yields (index, finding) as they finish.
"""

import ast
import builtins
import datetime as dt
import io
import json
import random
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gasp_rl.rollout import Judgement, Pair, Rejection
from gasp_rl.sandbox.base import Execution, Job, Sandbox, Status
from gasp_rl.sandbox.values import canonical, canonical_arguments

WORLDS = ((0, 981_173_106.0), (4242, 1_511_705_045.0))
"""Hash seed and standing clock (seconds since 1970) of the two processes that a program must agree with itself in."""

SHOWN = 60
"""Characters of a value in a detail."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer was worth, and why."""

    judgement: Judgement
    detail: str = ""


# Proposals


@dataclass(frozen=True, slots=True)
class Program:
    """A proposed function `f` and the argument texts it is to be run on."""

    source: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """Whether a proposed program may be used. Inputs and outputs are canonical, and empty where it was rejected."""

    rejection: Rejection | None
    detail: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


ALLOWED_IMPORTS = frozenset(
    "abc array bisect cmath collections copy dataclasses decimal enum fractions functools heapq itertools math "
    "numbers operator re statistics string typing".split()
)
BANNED_NAMES = frozenset(
    "__import__ breakpoint compile delattr dir eval exec exit getattr globals hash help id input locals open quit "
    "setattr vars".split()
)
ALLOWED_DUNDERS = frozenset({"__init__", "__name__"})
UNASKED = {
    name: module.__name__
    for module in (dt, io, json, random, sys)
    for name in (module.__name__, *getattr(module, "__all__", dir(module)))
    if not name.startswith("_") and name not in vars(builtins)
}
"""Name -> module: what the sandbox lets programs use without an import, as LiveCodeBench does, of modules that a proposal
may not import."""


def check(sandbox: Sandbox, programs: Iterable[Program]) -> Iterator[tuple[int, Checked]]:
    """Static policy, then two runs in fresh processes that differ in all that a result must not depend on: hash seed,
    time, time zone, addresses, process number, directory; the second with its inputs reversed.

    The policy keeps out what makes bad tasks (clocks, randomness, files); it is no security: the sandbox is.
    """
    runs: dict[int, dict[int, Execution]] = {}
    inputs: dict[int, tuple[str, ...]] = {}
    refused: list[tuple[int, Checked]] = []
    places: list[tuple[int, int]] = []

    def jobs() -> Iterator[Job]:
        for index, program in enumerate(programs):
            arguments = [canonical_arguments(text) for text in program.inputs]
            known = tuple(text for text in arguments if text is not None)
            if len(known) < len(arguments):
                bad = program.inputs[arguments.index(None)]
                refused.append((index, Checked(Rejection.MALFORMED, f"input is not a literal: {bad[:SHOWN]}")))
            elif (breach := policy_breach(program.source)) is not None:
                refused.append((index, breach))
            else:
                inputs[index], runs[index] = known, {}
                for run, (seed, clock) in enumerate(WORLDS):
                    places.append((index, run))
                    yield Job(program.source, known[:: 1 if run == 0 else -1], hash_seed=seed, clock=clock)

    for place, execution in sandbox.execute(jobs()):
        while refused:
            yield refused.pop()
        index, run = places[place]
        runs[index][run] = execution
        if len(runs[index]) == len(WORLDS):
            yield index, _agreed(inputs[index], runs[index][0], runs[index][1])
    while refused:
        yield refused.pop()


def policy_breach(source: str) -> Checked | None:
    """The first rule of the static policy that a proposed program breaks."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in what a model wrote
            tree = ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        return Checked(Rejection.INVALID, f"does not parse: {type(error).__name__}: {error}"[:200])
    if not any(isinstance(node, ast.FunctionDef) and node.name == "f" for node in tree.body) and not any(
        isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "f" for t in node.targets)
        for node in tree.body
    ):
        return Checked(Rejection.INVALID, "defines no function f")
    nodes = list(ast.walk(tree))
    for node in nodes:
        rule = _broken_rule(node)
        if rule:
            return Checked(Rejection.UNSAFE, rule)
    unasked = [node.id for node in nodes if isinstance(node, ast.Name) and node.id in UNASKED]
    if unasked:
        own = {name for node in nodes for name in _names_bound(node)}
        for name in unasked:
            if name not in own:
                return Checked(Rejection.UNSAFE, f"uses {name} of {UNASKED[name]}")
    return None


def _names_bound(node: ast.AST) -> list[str]:
    """Names that a node of a syntax tree gives a meaning to."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return [name]
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
            return [name]
        case ast.alias(name=name, asname=other):
            return [other or name.split(".")[0]]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return [name]
        case ast.MatchMapping(rest=str(name)):
            return [name]
        case _:
            return []


def _broken_rule(node: ast.AST) -> str:
    match node:
        case ast.Import(names=names):
            modules = [alias.name for alias in names]
        case ast.ImportFrom(module=module):
            modules = [module or "."]
        case ast.Name(id=name) if name in BANNED_NAMES:
            return f"uses {name}"
        case ast.Attribute(attr=name) if name.startswith("__") and name not in ALLOWED_DUNDERS:
            return f"uses .{name}"
        case _:
            return ""
    banned = [module for module in modules if module.split(".")[0] not in ALLOWED_IMPORTS]
    return f"imports {banned[0]}" if banned else ""


def _agreed(inputs: tuple[str, ...], forward: Execution, backward: Execution) -> Checked:
    for execution in (forward, backward):
        if execution.status is Status.INFRA:
            return Checked(Rejection.SANDBOX_FAULT, execution.detail)
    if forward.status is not Status.OK:
        return Checked(Rejection.INVALID, f"{forward.status}: {forward.detail}"[:200])
    if backward.status is not Status.OK:
        return Checked(Rejection.NONDETERMINISTIC, f"second run: {backward.status}: {backward.detail}"[:200])
    outputs = tuple(result.value for result in forward.results)
    again = tuple(result.value for result in reversed(backward.results))
    for text, first, second in zip(inputs, outputs, again, strict=True):
        if first != second:
            return Checked(Rejection.NONDETERMINISTIC, f"f({short(text)}) gave {short(first)}, then {short(second)}")
    return Checked(None, "", inputs, outputs)


# Self-play tasks


def grade_pairs(sandbox: Sandbox, attempts: Iterable[tuple[str, Sequence[Pair]]]) -> Iterator[tuple[int, Verdict]]:
    """Induction: does the program give every pair's output for its input? Values are compared with their types."""
    expected: list[Sequence[Pair]] = []

    def jobs() -> Iterator[Job]:
        for source, pairs in attempts:
            expected.append(pairs)
            yield Job(source, tuple(pair.input for pair in pairs))

    for index, execution in sandbox.execute(jobs()):
        yield index, _matches(execution, expected[index])


def grade_abduction(sandbox: Sandbox, attempts: Iterable[tuple[str, str, str]]) -> Iterator[tuple[int, Verdict]]:
    """Abduction: (program, arguments the student gave, output wanted). Only literal arguments are ever passed in."""
    unreadable: list[tuple[int, Verdict]] = []
    asked: list[tuple[int, Pair]] = []

    def jobs() -> Iterator[Job]:
        for index, (source, text, wanted) in enumerate(attempts):
            arguments = canonical_arguments(text)
            if arguments is None:
                unreadable.append((index, _not_a_literal(text)))
            else:
                asked.append((index, Pair(arguments, wanted)))
                yield Job(source, (arguments,))

    for place, execution in sandbox.execute(jobs()):
        index, pair = asked[place]
        yield index, _matches(execution, [pair])
    yield from unreadable


def grade_deduction(text: str, expected: str) -> Verdict:
    """Deduction: is the literal the student gave the program's output? Nothing is run."""
    value = canonical(text)
    if value is None:
        return _not_a_literal(text)
    if value == expected:
        return Verdict(Judgement.CORRECT)
    return Verdict(Judgement.WRONG, f"said {short(value)}, is {short(expected)}")


def _matches(execution: Execution, pairs: Sequence[Pair]) -> Verdict:
    if execution.status is Status.INFRA:
        return Verdict(Judgement.SANDBOX_FAULT, execution.detail)
    for pair, result in zip(pairs, execution.results, strict=False):
        if result.status is Status.OK and result.value != pair.output:
            return Verdict(
                Judgement.WRONG, f"f({short(pair.input)}) gave {short(result.value)}, not {short(pair.output)}"
            )
    if execution.status is not Status.OK:
        return Verdict(Judgement.WRONG, f"{execution.status}: {execution.detail}"[:200])
    return Verdict(Judgement.CORRECT)


def _not_a_literal(text: str) -> Verdict:
    return Verdict(Judgement.MALFORMED, f"not a literal: {short(text)}")


def short(text: str) -> str:
    """Enough of a value for a detail."""
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
