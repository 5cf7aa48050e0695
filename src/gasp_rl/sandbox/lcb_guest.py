"""Runs inside the jail, around a program, and does to it what LiveCodeBench's grader does. Never imported by the trainer.

Standard library only. It shares its process with the program, holds inputs but no expected outputs, and is not trusted.
"""

import ast
import builtins
import io
import os
import sys
from collections import UserList
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from types import ModuleType

PRELUDE = "".join(
    f"from {name} import *\n"
    for name in "string re datetime collections heapq bisect copy math random statistics itertools functools operator io "
    "sys json builtins typing".split()
) + "".join(
    f"import {name}\n"
    for name in "string re datetime collections heapq bisect copy math random statistics itertools functools operator io "
    "sys json".split()
)
MISSING_MODULES = ("ipdb", "joblib", "resource", "psutil", "tkinter")
MISSING_FUNCTIONS = (
    "kill system putenv remove removedirs rmdir fchdir setuid fork forkpty killpg rename renames truncate replace unlink "
    "fchmod fchown chmod chown chroot lchflags lchmod lchown getcwd chdir"
).split()


class Buffer:
    def __init__(self, inputs: str) -> None:
        self.inputs = inputs.encode("utf-8")

    def read(self, *_: object) -> bytes:
        return self.inputs

    def readline(self, *_: object) -> bytes:
        return self.inputs.split(b"\n")[0] + b"\n"  # always the first line


class Stdin:
    """What a program finds as `sys.stdin`. Not iterable: `__getattr__` does not serve special methods."""

    def __init__(self, inputs: str) -> None:
        self.inputs = inputs
        self._stringio = io.StringIO(inputs)
        self.buffer = Buffer(inputs)

    def read(self, *_: object) -> str:
        return self.inputs

    def readline(self, *arguments: int) -> str:
        return self._stringio.readline(*arguments)

    def readlines(self, *_: object) -> list[str]:
        return self.inputs.split("\n")

    def __getattr__(self, name: str) -> object:
        return getattr(self._stringio, name)


class Opened(io.StringIO):
    """What `builtins.open` gives, whatever is opened: the input to read, and writing does nothing."""

    def write(self, _: str) -> int:
        return 0


def without_main_guard(code: str) -> str:
    """The program with the body of a last `if __name__ == '__main__':` in its place."""
    try:
        tree = ast.parse(code)
        last = tree.body[-1]
        if isinstance(last, ast.If) and ast.unparse(last.test).strip() == "__name__ == '__main__'":
            unguarded = [ast.unparse(ast.Module(part, [])) for part in (tree.body[:-1], last.body)]
            return "\n".join(unguarded)
    except Exception:  # noqa: BLE001, S110 - as there
        pass
    return code


def as_function(code: str) -> str:
    """Imports first, all other statements inside one function. What cannot be parsed stays as it is, and fails later."""
    try:
        body = ast.parse(code).body
        imports: list[ast.stmt] = [stmt for stmt in body if isinstance(stmt, ast.Import | ast.ImportFrom)]
        others = [stmt for stmt in body if not isinstance(stmt, ast.Import | ast.ImportFrom)]
        nothing = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
        function = ast.FunctionDef(name="wrapped_function", args=nothing, body=others, decorator_list=[], lineno=-1)
        if sys.version_info >= (3, 12):
            function.type_params = []
        return f"{PRELUDE}\n{ast.unparse(ast.Module(imports, []))}\n{ast.unparse(function)}"
    except Exception:  # noqa: BLE001 - as there
        return code


def run_module(code: str) -> object:
    """The module, or an instance of its `Solution` if the text has such a class anywhere."""
    module = ModuleType("tmp_sol", "")
    exec(code, vars(module))
    if "class Solution" in code:
        return module.Solution()
    return module


def print_on(function: Callable[[], object], inputs: str) -> str:
    """Standard output of one call."""
    stdin, stdout, opened = sys.stdin, sys.stdout, builtins.open
    lines = iter(inputs.split("\n"))
    # The stdin that was there before, which `from sys import stdin` still names.
    vars(stdin).update(readline=lambda *_: next(lines), readlines=lambda *_: inputs.split("\n"), read=lambda *_: inputs)
    captured = io.StringIO()
    captured.close = lambda _: 1  # type: ignore[method-assign, assignment, misc]
    sys.stdin, sys.stdout = Stdin(inputs), captured
    vars(builtins)["open"] = lambda *_, **__: Opened(inputs)
    try:
        function()
    except SystemExit:
        pass
    finally:
        sys.stdin, sys.stdout, builtins.open = stdin, stdout, opened
        for name in ("readline", "readlines", "read"):
            vars(stdin).pop(name, None)
    return captured.getvalue()


def plain(value: object) -> object:
    """The builtin value that equals this one, where there is one: `Counter` is a dict, `Fraction(1, 2)` is 0.5."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__pos__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, list | UserList):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, complex) and value.imag == 0:
        return value.real
    if isinstance(value, Decimal | Fraction):
        return next((kind(value) for kind in (int, float) if kind(value) == value), value)
    return value


def load(code: str, entry: str) -> Callable[..., object]:
    """The program as a function that the worker calls: of arguments to a result, or of standard input to output."""
    os.environ["OMP_NUM_THREADS"] = "1"
    vars(os).update(dict.fromkeys(MISSING_FUNCTIONS))
    vars(builtins).update(quit=None, help=None)
    sys.modules.update(dict.fromkeys(MISSING_MODULES))  # type: ignore[arg-type]
    sys.setrecursionlimit(50_000)

    if not entry:
        function = run_module(as_function(without_main_guard(code))).wrapped_function  # type: ignore[attr-defined]
        return lambda inputs: print_on(function, inputs)

    method = getattr(run_module(f"{PRELUDE}\n\n{code}"), entry)

    def call(*arguments: object) -> object:
        result = method(*arguments)
        return plain(list(result) if isinstance(result, tuple) else result)

    return call
