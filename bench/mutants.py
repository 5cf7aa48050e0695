"""Programs that are nearly right: reference solutions with one thing changed, such as people and models get wrong.

    python bench/mutants.py ANSWERS PROBLEMS... [--failing 9]

Writes to ANSWERS, for every problem of these files that has one, its reference and then mutants of it, until so many of them
fail a test: one JSON object per line with `id`, `program`, `reference`, `outcome` as we grade it, the faithful way, and `cpu_seconds`. Mutants
that take long on any test are left out, so that no time limit of any grader plays a part. Which mutants there are, and their order, depends on
nothing but the source: one of each kind in turn, so that the first few differ in kind.
"""

import argparse
import ast
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TypeAlias

from gasp_rl.config import GradingConfig
from gasp_rl.problem import Problem
from gasp_rl.problems.jsonl import read_problems
from gasp_rl.sandbox.base import Status
from gasp_rl.sandbox.grading import Grade, Judged, grade
from gasp_rl.sandbox.local import LocalSandbox

Change: TypeAlias = Callable[[ast.AST], None]
"""Of a node in its place."""
Body: TypeAlias = list[ast.stmt]

SECONDS = 0.25
"""Longest that a mutant may take on all tests."""
QUICK = GradingConfig(limits=replace(GradingConfig().limits, cpu_seconds=SECONDS, input_cpu_seconds=0.0))
NO_VERDICT = frozenset({Status.TIMEOUT_CPU, Status.TIMEOUT_WALL, Status.INFRA})
MOST_TRIED = 40
"""Mutants of one reference."""
PROBLEMS_AT_A_TIME = 50

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq, ast.LtE), ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
}  # fmt: skip
OPERATORS: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Add,), ast.FloorDiv: (ast.Div, ast.Mult), ast.Div: (ast.FloorDiv,),
    ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,), ast.BitXor: (ast.BitOr,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
    ast.LShift: (ast.RShift,), ast.RShift: (ast.LShift,),
}  # fmt: skip
RETURNS = (
    "str(it)", "[it]", "(it, it)", "float(it)", "None", "not (it)", "tuple(it)", "iter(it)", "set(it)", "{0: it}", "repr(it)",
    "sorted(it)", "(it)[::-1]", "(it)[:-1]", "-(it)", "collections.deque(it)", "complex(it)", "[list(it)]", "lambda: it", "it + 0.5",
    "object()", "list(map(str, it))", "list(map(tuple, it))", "str(it).upper()", "bool(it)", "[[it]]", "[it] * 2", "nan", "it and True",
)  # fmt: skip
"""What a function might return instead of it: of another type, nested otherwise, or nothing that has a text."""
PRINTS = (
    "print(it, it)", "print(str(it).upper())", "print(str(it).lower())", "print(it, end=' ')", "print(it, sep='')", "print()",
    "print([it])", "print(str(it) + '.0')", "print(it, file=sys.stderr)", "print(repr(str(it)))", "print(it, 'x')", "print('Answer:', it)",
    "print(it, '\\n')", "print('\\n', it)", "print(it, end='\\n\\n')", "print(' ', it, ' ')", "print(it, end='\\r\\n')", "print(float(it))",
    "print('%.3f' % it)", "sys.stdout.write(str(it))", "print(None)", "print(chr(0), it)", "print('é', it)", "print(str(it) + 'e0')",
)  # fmt: skip
ENDS = (
    "raise ValueError('mutant')", "1 / 0", "[][1]", "undefined_name", "exit()", "sys.exit(1)", "raise KeyboardInterrupt", "quit()",
    "raise SystemExit('mutant')", "assert False", "raise StopIteration", "import package_that_is_missing", "''.missing", "os._exit(0)",
    "raise RecursionError", "'x' + 1", "input()", "os.getcwd()", "class Stop(BaseException): pass\nraise Stop", "raise GeneratorExit",
)  # fmt: skip
NOISE = (
    "print('debug')", "print()", "import sys\nprint('debug', file=sys.stderr)", "print('')", "sys.stdout.flush()", "print(1)",
    "import os\nos.write(2, b'debug')", "sys.stdout.write('0 ')", "import logging\nlogging.warning('debug')", "print('x' * 100)",
)  # fmt: skip


def mutants(source: str) -> Iterator[str]:
    """Every mutant once; those that are the same program but for layout are left out."""
    tree = ast.parse(source)
    by_kind: dict[str, list[tuple[int, Change]]] = defaultdict(list)
    for place, node in enumerate(ast.walk(tree)):
        for kind, change in changes(node):
            by_kind[kind].append((place, change))
    chance = random.Random(source)
    kinds = [by_kind[kind] for kind in sorted(by_kind)]
    chance.shuffle(kinds)
    for found in kinds:
        chance.shuffle(found)
    seen = {ast.unparse(tree)}
    for planned in chain.from_iterable(zip_longest(*kinds)):
        if planned is not None:
            place, change = planned
            copy = ast.parse(source)
            change(list(ast.walk(copy))[place])
            text = ast.unparse(ast.fix_missing_locations(copy))
            if text not in seen:
                seen.add(text)
                yield text


def changes(node: ast.AST) -> Iterator[tuple[str, Change]]:
    """What can be done to this node, by kind."""
    match node:
        case ast.Compare(ops=[operator, *_]):
            for other in COMPARISONS[type(operator)]:
                yield "comparison", setting("ops", other, at=0)
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator):
            for another in OPERATORS.get(type(operator), ()):
                yield "operator", setting("op", another)
        case ast.BoolOp(op=ast.And()):
            yield "boolean", setting("op", ast.Or)
        case ast.BoolOp():
            yield "boolean", setting("op", ast.And)
        case ast.Constant(value=bool() as value):
            yield "boolean", setting("value", lambda: not value)
        case ast.Constant(value=int() as value):
            for number in (value + 1, value - 1):
                yield "constant", setting("value", partial(int, number))
        case ast.Constant(value=str() as text):
            yield "text", setting("value", lambda: text + "x")
        case ast.If(test=test) | ast.IfExp(test=test):
            yield "condition", setting("test", lambda: ast.UnaryOp(ast.Not(), test))
        case ast.Return(value=ast.expr() as value):
            for wrong in RETURNS:
                yield "return", setting("value", partial(expression, wrong, value))
        case ast.Expr(value=ast.Call(func=ast.Name(id="print"), args=[ast.expr() as value, *_])):
            for wrong in PRINTS:
                yield "print", setting("value", partial(expression, wrong, value))
        case ast.Call(func=ast.Name(id="range"), args=[*_, stop]):
            yield "range", setting("args", lambda: ast.BinOp(stop, ast.Sub(), ast.Constant(1)), at=-1)
        case _:
            pass
    for field in ("body", "orelse"):
        body = getattr(node, field, None)
        if isinstance(body, list):
            for place, statement in enumerate(body):
                yield from statement_changes(field, place, statement)


def statement_changes(field: str, place: int, statement: ast.stmt) -> Iterator[tuple[str, Change]]:
    if isinstance(statement, ast.Assign | ast.AugAssign | ast.Expr | ast.If | ast.For | ast.Break | ast.Continue):
        yield "dropped statement", replacing(field, place, lambda _: [ast.Pass()])
    if isinstance(statement, ast.Assign | ast.AugAssign | ast.Expr):
        yield "repeated statement", replacing(field, place, lambda old: [old, old])
    for what in ENDS:
        yield "crash", replacing(field, place, partial(preceded, what))
    for what in NOISE:
        yield "extra output", replacing(field, place, partial(preceded, what))


def setting(field: str, make: Callable[[], object], at: int | None = None) -> Change:
    def change(node: ast.AST) -> None:
        if at is None:
            setattr(node, field, make())
        else:
            getattr(node, field)[at] = make()

    return change


def replacing(field: str, place: int, instead: Callable[[ast.stmt], Body]) -> Change:
    def change(node: ast.AST) -> None:
        body: Body = getattr(node, field)
        body[place : place + 1] = instead(body[place])

    return change


def preceded(what: str, statement: ast.stmt) -> Body:
    return [*ast.parse(what).body, statement]


def expression(form: str, value: ast.expr) -> ast.expr:
    """`form`, with `value` for `it`."""

    class Insert(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return value if node.id == "it" else node

    whole = ast.parse(form, mode="eval").body
    inserted: ast.expr = Insert().visit(whole)
    return inserted


def write_answers(sandbox: LocalSandbox, problems: list[Problem], failing: int, out: Path) -> None:
    with out.open("a") as file:
        for at in range(0, len(problems), PROBLEMS_AT_A_TIME):
            for problem, program, found in answers(sandbox, problems[at : at + PROBLEMS_AT_A_TIME], failing):
                answer = {
                    "id": problem.id,
                    "program": program,
                    "reference": program == problem.reference,
                    "outcome": found.outcome,
                    "cpu_seconds": found.cpu_seconds,
                }
                print(json.dumps(answer), file=file, flush=True)


def answers(sandbox: LocalSandbox, problems: list[Problem], failing: int) -> Iterator[tuple[Problem, str, Grade]]:
    waiting = {problem.id: islice(mutants(problem.reference), MOST_TRIED) for problem in problems}
    kept: dict[str, list[tuple[Problem, str, Grade]]] = defaultdict(list)
    wanted = dict.fromkeys(waiting, failing)
    attempts, how = [(problem.reference, problem) for problem in problems], GradingConfig()
    while attempts:
        for place, found in sorted(grade(sandbox, attempts, how)):
            program, problem = attempts[place]
            if found.outcome not in NO_VERDICT and (program == problem.reference or found.cpu_seconds < SECONDS):
                kept[problem.id].append((problem, program, found))
                wanted[problem.id] -= found.outcome is not Judged.PASS
        attempts, how = [(mutant, p) for p in problems for mutant in islice(waiting[p.id], max(0, wanted[p.id]))], QUICK
    return chain.from_iterable(kept.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path)
    parser.add_argument("problems", type=Path, nargs="+")
    parser.add_argument("--failing", type=int, default=9, help="mutants of a problem that fail")
    options = parser.parse_args()

    options.answers.write_text("")
    with LocalSandbox() as sandbox:
        for path in options.problems:
            problems = [problem for problem in read_problems(path).problems if problem.reference]
            write_answers(sandbox, problems, options.failing, options.answers)


if __name__ == "__main__":
    main()
