"""Prompts for instruct models: short requests as chat messages, and readers that take what such models really write.

Nothing is cut to fit: a statement goes in whole, and a prompt that leaves no room for a reply is for the caller to
refuse. An example too long to show is left out and the prompt says so.
"""

import ast
import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from gasp_rl.config import RungConfig
from gasp_rl.problem import Encoding, IoMode, Problem, TestCase
from gasp_rl.rollout import Axis, Kind, Message, Prompt, Proposal, Task
from gasp_rl.selfplay.prompts.base import Draft, Unreadable

EXAMPLE_CHARACTERS = 400
"""An example longer than this explains nothing that a short one would not."""

TEACHER = "You write short Python exercises for a student. Reply with the requested blocks only, without comment."
STUDENT = "You are an expert Python programmer."

GOALPOST = """\
This problem is too hard for the student:

<problem>
{statement}
</problem>
{examples}"""

PREVIOUS = """\
The student can solve this exercise about half of the time:

<exercise>
{message}
{program}
{examples}</exercise>
"""

TEACH = """\
{shown}
Write one {comparative} exercise: a function `f`, inputs for it, and a message to the student. {motif}
{axis}

The student sees the message and a few inputs with their outputs, not the code, and has to write `f`.
{form}"""

EASIER = """\
Keep the idea that solves the problem above, in its smallest form, and drop the story: speak only of numbers, lists \
and strings. It has to be clearly easier than the problem, but not trivial."""

HARDER = """\
Keep the idea of the exercise above and make it one step harder: it needs a few more lines of thought, and stays \
solvable."""

AXES = {
    ("easier", Axis.IO): "Make the DATA simpler and keep the computation: fewer or flat arguments, small values.",
    ("easier", Axis.F): "Make the COMPUTATION simpler and keep the kind of data: drop conditions, use fewer steps.",
    ("harder", Axis.IO): "Make the DATA richer and keep the computation: nested or several lists, another encoding.",
    ("harder", Axis.F): "Make the COMPUTATION richer and keep the kind of data: add one condition or one more step.",
}

RULES = """\
`f` takes at least one argument, returns a value, and is deterministic. At most 12 lines, standard library only, \
imports on top; no class, no printing, no reading of input, no randomness, no comments, no calls outside `f`."""

FORM = """\
Reply in this form, and stop after the last block:

```python
def f(...):
    ...
    return ...
```
{inputs}
```message
Given ..., return ...
```

Code: {rules}
Inputs: {pairs} different ones, short, that reach different cases. Each is one line: the arguments of `f` as Python \
literals separated by commas, strings in quotes, no names, no call.
Message: one or two sentences that say exactly what `f` returns, no code."""

INPUT_FORM = "```input\n...\n```"

FREE_PROGRAM = """\
{references}Write one new Python function `f` and one input for it. {aim} The task has to need careful step-by-step \
reasoning, yet fit a short function.

Reply in this form, and stop after the last block:

```python
def f(...):
    ...
    return ...
```
```input
...
```

Code: {rules}
Input: one line, the arguments of `f` as Python literals separated by commas, strings in quotes, no names, no call."""

FREE_AIMS = {
    Kind.DEDUCTION: "A student will be shown both and has to predict what `f` returns.",
    Kind.ABDUCTION: "A student will be shown `f` and what it returns, and has to find an input that gives it.",
}

FREE_REFERENCES = """\
These tasks exist already; yours must differ from all of them:

{tasks}

"""

FREE_MESSAGE = """\
Here is a Python function:

```python
{program}
```

A student will see a message of yours and some inputs with their outputs, not the code, and has to write the function.
Choose the inputs and write the message. Reply in this form, and stop after the last block:

{inputs}
```message
Given ..., return ...
```

Inputs: {pairs} different ones, short, that reach different cases. Each is one line: the arguments of `f` as Python \
literals separated by commas, strings in quotes, no names, no call.
Message: one or two sentences that help to find the function, no code."""

INDUCTION = """\
Write a Python function `f` that does this:

{message}

Examples:
{examples}

Your function is tested on other inputs too. Standard library only; no printing, no reading of input.
Reply with the function in one ```python block and nothing else."""

DEDUCTION = """\
```python
{program}
```

What does `f({input})` return?
Follow the code step by step, briefly. End with the value as a Python literal, strings in quotes, in this form:

```output
...
```"""

ABDUCTION = """\
```python
{program}
```

For which arguments does `f` return the following value?

{output}

Any arguments that give it will do. Think briefly. End with the arguments as Python literals separated by commas, \
strings in quotes, in this form:

```input
...
```"""

PROBLEM = """\
Solve this programming problem in Python.

<problem>
{statement}
</problem>
{examples}
{task}"""

PROBLEM_STDIN = """\
Write a complete program that reads standard input and prints the answer in the required form, nothing else.
Reply with the program in one ```python block."""

PROBLEM_STARTER = """\
Complete this code; keep its names and arguments, and import what you use:

```python
{starter}
```

Reply with the complete code in one ```python block."""

PROBLEM_FUNCTION = """\
Write a function named `{entry_point}` that takes the arguments in the given order and returns the answer.
Reply with the function, and the imports it needs, in one ```python block."""


@dataclass(frozen=True)
class ChatPrompts:
    """The prompt set for instruct models."""

    name: str = "chat"
    stop: tuple[str, ...] = ()
    """A chat model ends its turn itself."""

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()

    def teach(self, rung: RungConfig, axis: Axis, goalpost: Problem | None, previous: Proposal | None,
              pairs: int) -> Prompt:  # fmt: skip
        shown = []
        if goalpost is not None:
            shown.append(GOALPOST.format(statement=goalpost.statement.strip(), examples=_problem_examples(goalpost)))
        if previous is not None:
            examples = "".join(f"{_example(pair.input, pair.output)}\n" for pair in previous.pairs)
            program = f"```python\n{previous.program.strip()}\n```"
            shown.append(PREVIOUS.format(message=previous.message, program=program, examples=examples))
        easier = rung.direction == "easier"
        text = TEACH.format(
            shown="\n".join(shown),
            comparative="EASIER" if easier else "HARDER",
            motif=EASIER if easier else HARDER,
            axis=AXES[rung.direction, axis],
            form=FORM.format(inputs=_input_forms(pairs), rules=RULES, pairs=pairs),
        )
        return _chat(TEACHER, text)

    def propose_freely(self, kind: Kind, references: Sequence[Proposal], pairs: int) -> Prompt:
        if kind is Kind.INDUCTION:
            program = references[0].program.strip()
            return _chat(TEACHER, FREE_MESSAGE.format(program=program, inputs=_input_forms(pairs), pairs=pairs))
        tasks = "\n\n".join(
            "\n".join([f"```python\n{task.program.strip()}\n```", *(f"```input\n{p.input}\n```" for p in task.pairs[:1])])
            for task in references
        )
        shown = FREE_REFERENCES.format(tasks=tasks) if references else ""
        return _chat(TEACHER, FREE_PROGRAM.format(references=shown, aim=FREE_AIMS[kind], rules=RULES))

    def ask(self, task: Task) -> Prompt:
        match task.kind:
            case Kind.DEDUCTION:
                text = DEDUCTION.format(program=task.program.strip(), input=task.shown[0].input)
            case Kind.ABDUCTION:
                text = ABDUCTION.format(program=task.program.strip(), output=task.shown[0].output)
            case _:
                examples = "\n".join(_example(pair.input, pair.output) for pair in task.shown)
                text = INDUCTION.format(message=task.message, examples=examples)
        return _chat(STUDENT, text)

    def ask_problem(self, problem: Problem) -> Prompt:
        if problem.io_mode is IoMode.STDIN:
            task = PROBLEM_STDIN
        elif problem.starter_code.strip():
            task = PROBLEM_STARTER.format(starter=problem.starter_code.rstrip())
        else:
            task = PROBLEM_FUNCTION.format(entry_point=problem.entry_point)
        statement = problem.statement.strip()
        text = PROBLEM.format(statement=statement, examples=_problem_examples(problem), task=task)
        return _chat(STUDENT, text)

    def read_proposal(self, text: str, pairs: int) -> Draft | Unreadable:
        blocks, rest = _split(text)
        program = _proposed_program(blocks)
        if isinstance(program, Unreadable):
            return program
        inputs = _inputs(blocks, rest, program.signature, pairs)
        if isinstance(inputs, Unreadable):
            return inputs
        message = _message(blocks, rest, text)
        return message if isinstance(message, Unreadable) else Draft(message, program.source, inputs)

    def read_free_proposal(self, kind: Kind, references: Sequence[Proposal], text: str,
                           pairs: int) -> Draft | Unreadable:  # fmt: skip
        blocks, rest = _split(text)
        if kind is not Kind.INDUCTION:
            program = _proposed_program(blocks)
            if isinstance(program, Unreadable):
                return program
            inputs = _inputs(blocks, rest, program.signature, 1)
            return inputs if isinstance(inputs, Unreadable) else Draft("", program.source, inputs)

        given = _program(references[0].program)
        if isinstance(given, Unreadable):
            return given
        inputs = _inputs(blocks, rest, given.signature, pairs)
        if isinstance(inputs, Unreadable):
            return inputs
        message = _message(blocks, rest, text)
        return message if isinstance(message, Unreadable) else Draft(message, references[0].program, inputs)

    def read_program(self, text: str) -> str | Unreadable:
        blocks, _ = _split(text)
        candidates = [block.text for block in blocks if block.part in (Part.PROGRAM, Part.OTHER)]
        if not candidates:
            bare = _bare_program(text)
            return Unreadable("no program: there is no ```python block") if bare is None else _with_entry(bare)
        parsed = [(source, _parse(source)) for source in reversed(candidates)]
        trees = [(source, tree) for source, tree in parsed if isinstance(tree, ast.Module)]
        defining = [source for source, tree in trees if any(isinstance(node, DEFINITIONS) for node in tree.body)]
        if defining:
            return _with_entry(defining[0])
        if trees and trees[0][1].body:
            return trees[0][0]
        complaint = parsed[0][1]
        return complaint if isinstance(complaint, Unreadable) else Unreadable("the program is empty")

    def read_literal(self, text: str) -> str | Unreadable:
        blocks, rest = _split(text)
        named = [block.text for block in blocks if block.part in (Part.OUTPUT, Part.INPUT)]
        plain = [block.text for block in blocks if block.part in (Part.OTHER, Part.PROGRAM)]
        answers = named[-1:] or plain[-1:] or _labelled(rest, LITERAL_LABEL)[-1:] or rest.strip().split("\n")[-1:]
        arguments = _arguments(answers[0]) if answers else None
        if not arguments:
            return Unreadable(f"not a Python literal: {_short(answers[0])}" if answers else "no answer")
        return _joined(node for _, node in arguments)


CHAT = ChatPrompts()


# Writing


def _chat(system: str, user: str) -> Prompt:
    return (Message("system", system), Message("user", user))


def _input_forms(pairs: int) -> str:
    return "\n".join([INPUT_FORM] * pairs)


def _example(arguments: str, output: str) -> str:
    return f"f({arguments}) == {output}"


def _problem_examples(problem: Problem) -> str:
    """The public tests that the statement does not show itself, in words of their io mode."""
    missing = [test for test in problem.public_tests if not _mentioned(test, problem.statement)]
    short = [test for test in missing if len(test.input) + len(test.output) <= EXAMPLE_CHARACTERS]
    lines = [_problem_example(problem, test) for test in short]
    if len(short) < len(missing):
        lines.append(f"({len(missing) - len(short)} more, too long to show here)")
    return "\n" + "\n".join(["Examples:", *lines]) + "\n" if lines else ""


def _problem_example(problem: Problem, test: TestCase) -> str:
    if problem.io_mode is IoMode.STDIN:
        return f"Input:\n{test.input.rstrip()}\nOutput:\n{test.output.rstrip()}\n"
    arguments = [_as_python(line, problem.encoding) for line in test.input.split("\n") if line]
    return f"{problem.entry_point}({', '.join(arguments)}) == {_as_python(test.output, problem.encoding)}"


def _as_python(literal: str, encoding: Encoding) -> str:
    return repr(json.loads(literal)) if encoding is Encoding.JSON else literal


def _mentioned(test: TestCase, statement: str) -> bool:
    """Every line of the test stands in the statement, up to spaces: it shows this example already."""
    seen = _squeezed(statement)
    return all(_squeezed(line) in seen for line in [*test.input.split("\n"), *test.output.split("\n")])


def _squeezed(text: str) -> str:
    return "".join(text.split())


# Reading blocks


class Part(StrEnum):
    """What a block of a reply is."""

    PROGRAM = "program"
    INPUT = "input"
    OUTPUT = "output"
    MESSAGE = "message"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Block:
    part: Part
    text: str


FENCE = re.compile(r"^[\s>*\-\d.]*(`{3,}|~{3,})(.*)$")
NAMES = {
    Part.INPUT: re.compile(r"\b(?:test[\s_]?)?inputs?[\s_]*\d*\b|\btest cases?\b", re.IGNORECASE),
    Part.OUTPUT: re.compile(r"\b(?:outputs?|results?)\b", re.IGNORECASE),
    Part.MESSAGE: re.compile(r"\b(?:message|msg|description|exercise|task)\b", re.IGNORECASE),
}
PYTHON_TAGS = frozenset({"python", "py", "python3", "python2", "code", "program"})
OTHER_TAGS = frozenset({"text", "txt", "plaintext", "plain", "json", "markdown", "md", "bash", "sh", "shell", "console"})
CODE_LINE = re.compile(r"^(?:def|class|async def|import|from)\b", re.MULTILINE)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _split(text: str) -> tuple[list[Block], str]:
    """Fenced blocks in order, and the prose around them. A last block that is never closed counts as it stands."""
    blocks: list[Block] = []
    prose: list[str] = []
    opened: tuple[str, str] | None = None  # fence, tag
    lines: list[str] = []
    heading = ""
    for line in text.split("\n"):
        fence = FENCE.match(line)
        if opened is not None:
            if fence and fence[1][0] == opened[0][0]:
                blocks.append(_block(opened[1], heading, lines))
                tag = fence[2].strip()
                opened = (fence[1], tag) if tag else None  # a fence with a tag opens the next block: one was not closed
                heading, lines = "", []
            elif line.rstrip().endswith("```"):
                blocks.append(_block(opened[1], heading, [*lines, line.rstrip()[:-3]]))
                opened, heading, lines = None, "", []
            else:
                lines.append(line)
        elif fence and fence[2].rstrip().endswith("```"):
            blocks.append(_block(fence[2].rstrip()[:-3].strip(), heading, []))
            heading = ""
        elif fence:
            opened, lines = (fence[1], fence[2].strip()), []
        else:
            prose.append(line)
            heading = line if line.strip() else heading
    if opened is not None:
        blocks.append(_block(opened[1], heading, lines))
    return blocks, "\n".join(prose)


def _block(tag: str, heading: str, lines: list[str]) -> Block:
    """What a block is, by its tag, else by what it holds, else by the line above it."""
    word, _, more = tag.partition(" ")
    known = _named(word) or (word.lower() in PYTHON_TAGS | OTHER_TAGS)
    if tag and not known:  # no tag but the first line of the text
        lines, word = [tag, *lines], ""
    elif more and not more.strip(" :#").isdigit():
        lines = [more, *lines]
    if not word and len(lines) > 1 and _named(lines[0]) and len(lines[0].split()) == 1:
        word, lines = lines[0].strip(), lines[1:]
    text = "\n".join(lines).strip("\n").rstrip()

    part = _named(word)
    if part is None and CODE_LINE.search(text):
        part = Part.PROGRAM
    if part is None:
        part = _named(heading) or (Part.PROGRAM if word.lower() in PYTHON_TAGS else Part.OTHER)
    return Block(part, text)


def _named(words: str) -> Part | None:
    return next((part for part, name in NAMES.items() if name.search(words)), None)


def _labelled(prose: str, label: re.Pattern[str]) -> list[str]:
    return [found[1].strip() for found in map(label.match, prose.split("\n")) if found]


# Reading programs


@dataclass(frozen=True, slots=True)
class Signature:
    parameters: tuple[str, ...]
    required: int
    open_ended: bool
    """It takes `*args`."""

    def takes(self, count: int) -> bool:
        return count >= self.required and (self.open_ended or count <= len(self.parameters))


@dataclass(frozen=True, slots=True)
class Program:
    source: str
    signature: Signature


def _parse(source: str) -> ast.Module | Unreadable:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escapes in what a model wrote
            return ast.parse(source)
    except SyntaxError as error:
        return Unreadable(f"the program does not parse: line {error.lineno}: {error.msg}")
    except (ValueError, MemoryError, RecursionError) as error:
        return Unreadable(f"the program does not parse: {error}")


def _proposed_program(blocks: Sequence[Block]) -> Program | Unreadable:
    """The first block that defines a function."""
    sources = [block.text for block in blocks if block.part is Part.PROGRAM]
    if not sources:
        return Unreadable("no program: there is no ```python block")
    return _program(next((source for source in sources if "def " in source), sources[0]))


def _program(source: str) -> Program | Unreadable:
    """A proposed program as it is kept: examples of its use are dropped, and it has a function `f`."""
    tree = _parse(source)
    if isinstance(tree, Unreadable):
        return tree
    entry = _entry(tree)
    if isinstance(entry, Unreadable):
        return entry
    if any(isinstance(node, ast.ClassDef) and node.name == "Solution" for node in tree.body):
        return Unreadable("the program defines class Solution: a function f was asked for")
    if entry.args.kwonlyargs and None in entry.args.kw_defaults:
        return Unreadable("f needs keyword arguments")
    positional = [*entry.args.posonlyargs, *entry.args.args]
    open_ended = entry.args.vararg is not None
    if not positional and not open_ended:
        return Unreadable("f takes no argument")
    signature = Signature(tuple(a.arg for a in positional), len(positional) - len(entry.args.defaults), open_ended)
    return Program(_with_alias(_without_use(source, tree, entry.name), entry.name), signature)


def _entry(tree: ast.Module) -> ast.FunctionDef | Unreadable:
    """The function `f`, or the only one that no other function mentions."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if "f" in functions:
        return functions["f"]
    if not functions:
        return Unreadable("the program defines no function f")
    mentioned = {
        name.id
        for function in functions.values()
        for name in ast.walk(function)
        if isinstance(name, ast.Name) and name.id != function.name
    }
    roots = [function for name, function in functions.items() if name not in mentioned]
    if len(roots) != 1:
        return Unreadable(f"no function is named f, and {len(roots)} could be meant")
    return roots[0]


def _with_alias(source: str, name: str) -> str:
    """`f = name` at the end: right whatever the names inside mean, where a renaming could go wrong."""
    return source if name == "f" else f"{source.rstrip()}\n\nf = {name}"


def _without_use(source: str, tree: ast.Module, entry: str) -> str:
    """Without top-level statements that call the function, print, or run only as a script: they show its results."""
    lines: list[str | None] = list(source.split("\n"))
    for node in tree.body:
        if isinstance(node, (*DEFINITIONS, ast.Import, ast.ImportFrom)):
            continue
        names = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        if names & {entry, "print", "__name__"} and node.end_lineno is not None:
            lines[node.lineno - 1 : node.end_lineno] = [None] * (node.end_lineno - node.lineno + 1)
    kept = "\n".join(line for line in lines if line is not None).rstrip()
    return kept if isinstance(_parse(kept), ast.Module) else source  # two statements on one line may break it


def _with_entry(source: str) -> str:
    """An answer as it is run: it answers to `f` too where one function is clearly meant and nothing else is run.

    A real problem asks for another name or for a script; the extra name does no harm there.
    """
    tree = _parse(source)
    if isinstance(tree, Unreadable):
        return source
    bound = {name.id for node in tree.body if not isinstance(node, DEFINITIONS) for name in ast.walk(node)
             if isinstance(name, ast.Name)}  # fmt: skip
    entry = _entry(tree)
    classes = any(isinstance(node, ast.ClassDef) for node in tree.body)
    if isinstance(entry, Unreadable) or classes or entry.name in bound or "f" in bound:
        return source
    return _with_alias(source, entry.name)


def _bare_program(text: str) -> str | None:
    """A program without fences: from the first line that looks like code to the last with which it still parses."""
    lines = text.split("\n")
    start = next((number for number, line in enumerate(lines) if CODE_LINE.match(line)), None)
    if start is None:
        return None
    for end in range(len(lines), max(start, len(lines) - 30), -1):
        source = "\n".join(lines[start:end])
        if isinstance(_parse(source), ast.Module):
            return source.rstrip()
    return None


# Reading inputs and literals

INPUT_LABEL = re.compile(r"^[\s#*\-\d.]*(?:test\s*)?(?:inputs?|arguments?)\s*\d*\s*[:=]?\**\s*[:=]\**\s*(\S.*)$", re.IGNORECASE)
LITERAL_LABEL = re.compile(
    r"^[\s#*\-]*(?:the\s+)?(?:final\s+)?(?:outputs?|inputs?|answer|result|arguments?)\s*(?:is)?\**\s*[:=]\**\s*(\S.*)$", re.IGNORECASE
)
BULLET = re.compile(r"^\s*(?:[-*+]\s+|\d+[.)]\s+)")
JSON_NAMES = {"true": True, "false": False, "null": None}
NOT_LITERAL = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)


def _inputs(blocks: Sequence[Block], rest: str, signature: Signature, pairs: int) -> tuple[str, ...] | Unreadable:
    """The first `pairs` different inputs that fit the signature."""
    texts = [block.text for block in blocks if block.part is Part.INPUT and block.text.strip()]
    texts = texts or _labelled(rest, INPUT_LABEL)
    if not texts:
        return Unreadable("no inputs: there is no ```input block")
    fitting: dict[str, None] = {}
    complaints = []
    for text in texts:
        found = _block_inputs(text, signature)
        if isinstance(found, Unreadable):
            complaints.append(found.reason)
        else:
            fitting.update(dict.fromkeys(found))
    if len(fitting) < pairs:
        count = f"{len(fitting)} different inputs, {pairs} needed"
        return Unreadable("; ".join([count, *complaints[:1]]))
    return tuple(fitting)[:pairs]


def _block_inputs(text: str, signature: Signature) -> list[str] | Unreadable:
    """One input, written on one or several lines, or one on each line."""
    whole = _fit(_arguments(text), signature)
    if whole is not None:
        return [whole]
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    fitted = [_fit(_arguments(line), signature) for line in lines]
    found = [input_ for input_ in fitted if input_ is not None]
    if found:
        return found
    if all(_arguments(line) is None for line in lines):
        return Unreadable(f"not Python literals: {_short(text)}")
    return Unreadable(f"not arguments for ({', '.join(signature.parameters)}): {_short(text)}")


Argument = tuple[str, ast.expr]
"""The name it was given, if any, and its literal."""


def _arguments(text: str) -> list[Argument] | None:
    """Arguments as a model writes them: `1, [2]`, `f(1, [2])`, `x = 1, y = [2]`, or one on each line."""
    cleaned = BULLET.sub("", text.strip()).strip("` \t").rstrip(",;")
    for source in (cleaned, cleaned.replace(";", ",").rstrip(",. \n").replace("\n", ", ")):
        call = _call(f"f({source}\n)")
        if call is None:
            continue
        arguments = [("", node) for node in call.args] + [(k.arg or "", k.value) for k in call.keywords]
        if arguments and all(_is_literal(node) for _, node in arguments):
            return arguments
    return None


def _call(source: str) -> ast.Call | None:
    tree = _parse(source)
    if isinstance(tree, Unreadable) or len(tree.body) != 1:
        return None
    try:
        statement = _NamesOfJson().visit(tree).body[0]
    except RecursionError:
        return None
    call = statement.value if isinstance(statement, ast.Expr) else None
    for _ in range(3):  # f(f(1, 2)), f(print(f(1, 2)))
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            return None
        inner = call.args[0] if len(call.args) == 1 and not call.keywords else None
        if not isinstance(inner, ast.Call) or not (inner.args or inner.keywords):
            return call
        call = inner
    return None


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
        ellipsis = any(isinstance(part, ast.Constant) and part.value is ... for part in ast.walk(node))
    except NOT_LITERAL:
        return False
    return not ellipsis


class _NamesOfJson(ast.NodeTransformer):
    """true, false and null inside a value, as models write that have read much JSON."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(JSON_NAMES[node.id]) if node.id in JSON_NAMES else node


def _fit(arguments: list[Argument] | None, signature: Signature) -> str | None:
    """The text of the arguments in the order of the signature, or None if they do not fit it."""
    if arguments is None:
        return None
    named = dict(arguments)
    if len(named) == len(arguments) and set(named) <= set(signature.parameters):
        arguments = [(name, named[name]) for name in signature.parameters if name in named]
    nodes = [node for _, node in arguments]
    if len(nodes) == 1 and isinstance(nodes[0], ast.Tuple) and not signature.takes(1):
        nodes = nodes[0].elts  # (1, 2) for f(a, b)
    return _joined(nodes) if signature.takes(len(nodes)) else None


def _joined(nodes: Iterator[ast.expr] | Sequence[ast.expr]) -> str:
    return ", ".join(ast.unparse(node) for node in nodes)


# Reading messages

MESSAGE_TAG = re.compile(r"<message>\s*(.*?)\s*(?:</message>|<\\message>|$)", re.DOTALL | re.IGNORECASE)
MESSAGE_LABEL = re.compile(r"^[\s#*\-\d.]*(?:message|description)\**\s*:\**\s*(\S.*)$", re.IGNORECASE)
CODE_IN_MESSAGE = re.compile(r"```|^\s*def \w+\(|^\s*return \S", re.MULTILINE)


def _message(blocks: Sequence[Block], rest: str, text: str) -> str | Unreadable:
    """From its block, its tag, its label, or else the prose of the reply."""
    tagged = MESSAGE_TAG.search(text)
    found = (
        next((block.text.strip() for block in blocks if block.part is Part.MESSAGE and block.text.strip()), "")
        or (tagged[1] if tagged else "")
        or next(iter(_labelled(rest, MESSAGE_LABEL)), "")
        or _prose(rest)
    )
    if not found:
        return Unreadable("no message: there is no ```message block")
    if CODE_IN_MESSAGE.search(found):
        return Unreadable(f"the message contains code: {_short(found)}")
    if "..." in found and len(found) < len("Given ..., return ...") + 8:
        return Unreadable(f"the message is only its form: {_short(found)}")
    return found


def _prose(rest: str) -> str:
    """Sentences: no headings, no labels of blocks, nothing of two words."""
    sentences = [line.strip() for line in rest.split("\n")]
    return " ".join(line for line in sentences if len(line.split()) > 3 and line[-1] != ":" and line[0] not in "#*<-")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else f"{line[:57]}...")
