"""Read what instruct models write: fenced blocks, programs, inputs, literals, messages.

Nothing here runs a program or raises on a text; what cannot be read comes back as `Unreadable` with the reason.
"""

import ast
import itertools
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gasp_rl.rollout import Kind, Proposal
from gasp_rl.selfplay.prompts.base import Draft, Unreadable


def read_proposal(text: str, pairs: int) -> Draft | Unreadable:
    """Message, program and `pairs` inputs."""
    blocks, prose = _split(text)
    program = _proposed_program(blocks)
    if isinstance(program, Unreadable):
        return program
    inputs = _inputs(blocks, prose, program, pairs)
    if isinstance(inputs, Unreadable):
        return inputs
    message = _message(blocks, prose, text, program.description)
    return message if isinstance(message, Unreadable) else Draft(message, program.source, inputs)


def read_puzzle(text: str) -> Draft | Unreadable:
    """A program and one input, no message."""
    blocks, prose = _split(text)
    program = _proposed_program(blocks)
    if isinstance(program, Unreadable):
        return program
    inputs = _inputs(blocks, prose, program, 1)
    return inputs if isinstance(inputs, Unreadable) else Draft("", program.source, inputs)


def read_free_proposal(kind: Kind, references: Sequence[Proposal], text: str, pairs: int) -> Draft | Unreadable:
    """What Absolute Zero's proposer wrote: an exercise of the reference's program, or a puzzle."""
    return read_exercise(text, references[0].program, pairs) if kind is Kind.INDUCTION else read_puzzle(text)


def read_exercise(text: str, source: str, pairs: int) -> Draft | Unreadable:
    """A message and `pairs` inputs for a program that is given."""
    program = _program(source)
    if isinstance(program, Unreadable):
        return program
    blocks, prose = _split(text)
    inputs = _inputs(blocks, prose, program, pairs)
    if isinstance(inputs, Unreadable):
        return inputs
    message = _message(blocks, prose, text, program.description)
    return message if isinstance(message, Unreadable) else Draft(message, source, inputs)


def read_answer_program(text: str) -> str | Unreadable:
    """The last block that defines something, else the last that parses, else a program without fences."""
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


def read_answer_literal(text: str) -> str | Unreadable:
    """Of the last block that is named input or output, else of the last block, the last label, the last line."""
    blocks, prose = _split(text)
    named = [block.text for block in blocks if block.part in (Part.OUTPUT, Part.INPUT)]
    plain = [block.text for block in blocks if block.part in (Part.OTHER, Part.PROGRAM)]
    answer = [*prose.strip().split("\n")[-1:], *_labelled(prose, LITERAL_LABEL)[-1:], *plain[-1:], *named[-1:]][-1]
    arguments = _arguments(answer)
    if not arguments:
        return Unreadable(f"not a Python literal: {_short(answer)}" if answer.strip() else "there is no answer")
    return _joined(node for _, node in arguments)


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
    Part.INPUT: re.compile(r"\b(?:test[\s_]?)?inputs?[\s_]*\d*\b|\b(?:test cases?|calls|examples)\b", re.IGNORECASE),
    Part.OUTPUT: re.compile(r"\b(?:outputs?|results?)\b", re.IGNORECASE),
    Part.MESSAGE: re.compile(r"\b(?:message|msg|description|exercise|task)\b", re.IGNORECASE),
}
PYTHON_TAGS = frozenset({"python", "py", "python3", "python2", "code", "program"})
OTHER_TAGS = frozenset(
    {"text", "txt", "plaintext", "plain", "json", "markdown", "md", "bash", "sh", "shell", "console"}
)
CODE_LINE = re.compile(r"^(?:def|class|async def|import|from)\b", re.MULTILINE)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _split(text: str) -> tuple[list[Block], str]:
    """Fenced blocks in order, and the prose around them. A last block that is never closed counts as it stands."""
    blocks: list[Block] = []
    prose: list[str] = []
    opened: tuple[str, str] | None = None  # fence, tag
    lines: list[str] = []
    heading = ""
    for line in text.replace("\r\n", "\n").split("\n"):
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
    first = lines[0].strip() if len(lines) > 1 else ""
    if not word and len(first.split()) == 1 and (_named(first) or first.lower() in PYTHON_TAGS):
        word, lines = first, lines[1:]
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
    """A proposed program, and what was written beside it."""

    source: str
    name: str
    """Of its function."""
    signature: Signature
    description: str
    """Its docstring, else the comments that it begins with."""
    calls: tuple[str, ...]
    """Arguments of the calls in comments above it, in its docstring and after it."""


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
    source = _mended(source)
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
    uses = [node for node in tree.body if _is_use(node, entry.name)]
    docstring = ast.get_docstring(entry) or ""
    header = _header(source)
    below = [_fit(_call_arguments(call), signature) for use in uses for call in _calls(use, entry.name)]
    first = entry.body[0]
    as_written = "\n".join(source.split("\n")[first.lineno - 1 : first.end_lineno]) if docstring else ""  # with escapes
    above = _written_calls(f"{header}\n{as_written}", entry.name, signature)
    calls = [*above, *(call for call in below if call is not None)]
    dropped = [*uses, *entry.body[:1]] if docstring and len(entry.body) > 1 else uses
    kept = _with_alias(_without(source, dropped).removeprefix(header).lstrip("\n"), entry.name)
    told = docstring or (HASHES.sub("", header) if len(header.split()) > FEWEST_WORDS else "")
    return Program(kept, entry.name, signature, told, tuple(calls))


FEWEST_WORDS = 4
"""Of a comment that may be a message: `# Solution` is none."""
HASHES = re.compile(r"^#+ ?", re.MULTILINE)


def _header(source: str) -> str:
    """The comment lines that it begins with."""
    return "\n".join(itertools.takewhile(lambda line: line.startswith("#"), source.split("\n")))


USE_LINE = re.compile(r"(?:>>>|print\b|assert\b|\w+\()")
STRING_OR_BRACKET = re.compile(r"""'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|[()\[\]{}]""")
CALLED = re.compile(r"\b(?!print\b|assert\b)([A-Za-z_]\w*)\(")
MOST_MENDED = 40
"""Lines of one program."""


def _mended(source: str) -> str:
    """The same where it parses. Else each line that does not and only shows a use is reduced to the call in it, or left out:
    `>>> f(1)`, `f(1) -> 2`, `f([1, 2` where the reply was cut off.
    """
    lines = source.split("\n")
    for _ in range(MOST_MENDED):
        place = _error_line("\n".join(lines))
        if place is None or place >= len(lines) or not USE_LINE.match(lines[place]):
            break
        called = CALLED.search(lines[place])
        call = next(iter(_spelled_calls(lines[place], called[1])), "") if called else ""
        lines[place] = call if call != lines[place] else ""
    return "\n".join(lines)


def _error_line(source: str) -> int | None:
    """Of a syntax error, from 0."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except SyntaxError as error:
        return (error.lineno or 1) - 1
    except (ValueError, MemoryError, RecursionError):
        return None
    return None


def _spelled_calls(text: str, name: str) -> list[str]:
    """Every `name(...)` in a text, up to the bracket that closes it. Brackets in strings do not count."""
    found = []
    for match in re.finditer(rf"(?<!def )\b{re.escape(name)}\(", text):
        depth = 0
        for token in STRING_OR_BRACKET.finditer(text, match.end() - 1, match.end() + LONGEST_CALL):
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(token[0], 0)
            if depth == 0:
                found.append(text[match.start() : token.end()])
                break
    return found


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


def _is_use(node: ast.stmt, entry: str) -> bool:
    """A top-level statement that calls the function, prints, or runs only as a script: it shows results. So does a value."""
    if isinstance(node, (*DEFINITIONS, ast.Import, ast.ImportFrom)):
        return False
    if isinstance(node, ast.Expr) and _is_literal(node.value):
        return True
    return not {entry, "print", "__name__"}.isdisjoint(part.id for part in ast.walk(node) if isinstance(part, ast.Name))


def _calls(use: ast.stmt, entry: str) -> list[ast.Call]:
    found = [
        part
        for part in ast.walk(use)
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == entry
    ]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def _without(source: str, dropped: Sequence[ast.stmt]) -> str:
    """Without the lines of these statements; unchanged where that breaks it, as they share a line with others."""
    lines: list[str | None] = list(source.split("\n"))
    for node in dropped:
        lines[node.lineno - 1 : node.end_lineno] = [None] * ((node.end_lineno or node.lineno) - node.lineno + 1)
    rest = [line for line in lines if line is not None]
    while rest and (not rest[-1].strip() or rest[-1].startswith("#")):  # a heading of what was dropped
        rest.pop()
    kept = "\n".join(rest).rstrip()
    return kept if isinstance(_parse(kept), ast.Module) else source


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

INPUT_LABEL = re.compile(
    r"^[\s#*\-\d.]*(?:test\s*)?(?:inputs?|arguments?)\s*\d*\s*[:=]?\**\s*[:=]\**\s*(\S.*)$",
    re.IGNORECASE,
)
LITERAL_LABEL = re.compile(
    r"^[\s#*\-]*(?:the\s+)?(?:final\s+)?(?:outputs?|inputs?|answer|result|arguments?)\s*(?:is)?\**\s*[:=]\**\s*(\S.*)$",
    re.IGNORECASE,
)
BULLET = re.compile(r"^\s*(?:[-*+]\s+|\d+[.)]\s+)")
JSON_NAMES = {"true": True, "false": False, "null": None}
NOT_LITERAL = (ValueError, TypeError, SyntaxError)
LONGEST_CALL = 2_000
"""Characters of a call that is looked for in a text."""
MAX_DEPTH = 64
"""Of a literal, as of a value in the sandbox."""


def _inputs(blocks: Sequence[Block], prose: str, program: Program, pairs: int) -> tuple[str, ...] | Unreadable:
    """The first `pairs` different inputs that fit the signature: of blocks or labels, then of calls."""
    texts = [block.text for block in blocks if block.part is Part.INPUT and block.text.strip()]
    texts = texts or _labelled(prose, INPUT_LABEL)
    calls = [*program.calls, *_calls_elsewhere(blocks, prose, program)]
    if not texts and not calls:
        return Unreadable("no inputs: f is not called with literals")
    fitting: dict[str, None] = {}
    complaints = []
    for text in texts:
        found = _block_inputs(text, program.signature)
        if isinstance(found, Unreadable):
            complaints.append(found.reason)
        else:
            fitting.update(dict.fromkeys(found))
    fitting.update(dict.fromkeys(calls))
    if len(fitting) < pairs:
        count = f"{len(fitting)} different inputs, {pairs} needed"
        return Unreadable("; ".join([count, *complaints[:1]]))
    return tuple(fitting)[:pairs]


def _calls_elsewhere(blocks: Sequence[Block], prose: str, program: Program) -> Iterator[str]:
    """Of the function, in other blocks and in the prose."""
    for block in blocks:
        if block.part is not Part.INPUT and f"def {program.name}(" not in block.text:
            yield from _written_calls(block.text, program.name, program.signature)
    yield from _written_calls(prose, program.name, program.signature)


def _written_calls(text: str, name: str, signature: Signature) -> list[str]:
    fitted = [_fit(_arguments(call), signature) for call in _spelled_calls(text, name)]
    return [call for call in fitted if call is not None]


def _block_inputs(text: str, signature: Signature) -> list[str] | Unreadable:
    """One input, written on one or several lines, or one on each line."""
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    fitted = [_fit(_arguments(line), signature) for line in lines]
    found = [one for one in fitted if one is not None]
    whole = _fit(_arguments(text), signature) if len(found) < len(lines) else None
    if whole is not None or found:
        return found if whole is None else [whole]
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
        arguments = _call_arguments(call)
        if arguments is not None:
            return arguments
    return None


def _call_arguments(call: ast.Call) -> list[Argument] | None:
    """Of a call with nothing but literals."""
    arguments = [("", node) for node in call.args] + [(word.arg or "**", word.value) for word in call.keywords]
    if arguments and all(name != "**" and _is_literal(node) for name, node in arguments):
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
    """A literal that can be written down again: not too deep, no integer beyond what Python prints, no ellipsis."""
    layer: list[ast.AST] = [node]
    for _ in range(MAX_DEPTH):
        layer = [child for parent in layer for child in ast.iter_child_nodes(parent)]
    if layer:
        return False
    try:
        ast.literal_eval(node)
        ast.unparse(node)
    except NOT_LITERAL:
        return False
    return not any(isinstance(part, ast.Constant) and part.value is ... for part in ast.walk(node))


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


def _joined(nodes: Iterable[ast.expr]) -> str:
    return ", ".join(ast.unparse(node) for node in nodes)


# Reading messages

MESSAGE_TAG = re.compile(r"<message>\s*(.*?)\s*(?:</message>|<\\message>|$)", re.DOTALL | re.IGNORECASE)
MESSAGE_LABEL = re.compile(r"^[\s#*\-\d.]*(?:message|description)\**\s*:\**\s*(\S.*)$", re.IGNORECASE)
DOC_SECTION = re.compile(
    r"\s*(?:>>>|f\(|:\w+|(?:for )?examples?\b.{0,12}$|e\.g\.|(?:args?|arguments|parameters|params|returns?|raises|inputs?|outputs?|"
    r"notes?|test cases?|constraints)\s*:?\s*$|-{3,})",
    re.IGNORECASE,
)
"""Where the sentences of a docstring end."""
CODE_IN_MESSAGE = re.compile(r"```|^\s*def \w+\(|^\s*return \S", re.MULTILINE)


def _message(blocks: Sequence[Block], prose: str, text: str, docstring: str) -> str | Unreadable:
    """From its block, its tag, its label, the docstring, or else the prose of the reply."""
    tagged = MESSAGE_TAG.search(text)
    found = (
        next((block.text.strip() for block in blocks if block.part is Part.MESSAGE and block.text.strip()), "")
        or (tagged[1] if tagged else "")
        or next(iter(_labelled(prose, MESSAGE_LABEL)), "")
        or _described(docstring)
        or _sentences(prose)
    )
    if not found:
        return Unreadable("no message: neither comments above the function nor a docstring")
    if CODE_IN_MESSAGE.search(found):
        return Unreadable(f"the message contains code: {_short(found)}")
    if "..." in found and len(found) < len("Given ..., return ...") + 8:
        return Unreadable(f"the message is only its form: {_short(found)}")
    return found


def _described(docstring: str) -> str:
    """What a docstring says before its examples and its list of arguments."""
    lines = docstring.split("\n")
    end = next((place for place, line in enumerate(lines) if DOC_SECTION.match(line)), len(lines))
    return " ".join(" ".join(lines[:end]).split())


def _sentences(prose: str) -> str:
    """Sentences: no headings, no labels of blocks, nothing of two words."""
    lines = [line.strip() for line in prose.split("\n")]
    return " ".join(line for line in lines if len(line.split()) > 3 and line[-1] != ":" and line[0] not in "#*<-")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 60 else f"{line[:57]}...")
