"""Is this task new? Cosine similarity of message and program to every item ever accepted (arXiv:2603.15957 §3.3.1).

The default embedder needs no download: it counts pieces of the normalised program and of the words at several scales,
from single tokens to the whole, and hashes the counts into a vector. Renamed variables, docstrings, comments and layout
make no difference to it; a changed constant or a swapped step does.
"""

import ast
import hashlib
import math
import re
import struct
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gasp_rl.config import NoveltyConfig
from gasp_rl.rollout import Proposal

Vectors: TypeAlias = NDArray[np.float32]
"""One unit vector per row."""


class Embedder(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str:
        """Hash of whatever decides the vectors: version, parameters, weights."""
        ...

    def embed(self, texts_and_codes: Sequence[tuple[str, str]]) -> tuple[Vectors, Vectors]:
        """Unit vectors of the texts and of the codes, one row each; the same whatever else is embedded with them."""
        ...


Scale: TypeAlias = tuple[float, Sequence[str]]
"""Weight and features of one scale; the weights of a text's scales add up to 1."""

VERSION = 1


@dataclass(frozen=True, slots=True)
class HashedEmbedder:
    """Signed feature hashing of multi-scale n-grams.

    Every scale is a unit vector of 1 + ln(count), so the cosine of two items is the weighted mean of their cosines
    per scale (up to hash collisions, of order 1/sqrt(dimensions)). The whole item is a scale of its own: two items
    that differ anywhere can agree to 1 - (its weight) at most.
    """

    dimensions: int = 1024
    seed: int = 0

    @property
    def name(self) -> str:
        return "hashed"

    @property
    def digest(self) -> str:
        weights = (CODE_WEIGHTS, TEXT_WEIGHTS, sorted(STOP_WORDS))
        return hashlib.sha256(repr((self.name, VERSION, self.dimensions, self.seed, weights)).encode()).hexdigest()

    def embed(self, texts_and_codes: Sequence[tuple[str, str]]) -> tuple[Vectors, Vectors]:
        rows = len(texts_and_codes)
        texts = np.empty((rows, self.dimensions), np.float32)
        codes = np.empty((rows, self.dimensions), np.float32)
        for row, (text, code) in enumerate(texts_and_codes):
            texts[row] = self._vector(text_scales(text))
            codes[row] = self._vector(code_scales(code))
        return texts, codes

    def _vector(self, scales: Sequence[Scale]) -> Vectors:
        vector = np.zeros(self.dimensions)
        for place, (weight, features) in enumerate(scales):
            counts = Counter(features)
            if not counts:
                continue
            part = np.zeros(self.dimensions)
            for feature, count in counts.items():
                index, sign = _hashed(feature, place, self.seed)
                part[index % self.dimensions] += sign * (1 + math.log(count))
            length = float(np.linalg.norm(part))
            vector += part * (math.sqrt(weight) / length if length else 0.0)
        length = float(np.linalg.norm(vector))
        if length == 0:  # nothing to count: all empty items are alike, and like nothing else
            vector[0] = length = 1.0
        return (vector / length).astype(np.float32)


@lru_cache(maxsize=65_536)
def _hashed(feature: str, place: int, seed: int) -> tuple[int, float]:
    digest = hashlib.blake2b(feature.encode("utf-8", "backslashreplace"), digest_size=8,
                             salt=struct.pack("<IQ", place, seed)).digest()  # fmt: skip
    number = int.from_bytes(digest, "little")
    return number >> 1, 1.0 if number & 1 else -1.0


# Programs

CODE_WEIGHTS = {"tokens": 0.15, "pairs": 0.2, "fours": 0.2, "statements": 0.2, "statement pairs": 0.15, "whole": 0.1}


def code_scales(code: str) -> list[Scale]:
    lines = normalised(code)
    tokens = [token for line in lines for token in line]
    statements = [" ".join(line) for line in lines]
    features = (tokens, _grams(tokens, 2), _grams(tokens, 4), statements, _grams(["", *statements, ""], 2),
                ["\n".join(statements)])  # fmt: skip
    return list(zip(CODE_WEIGHTS.values(), features, strict=True))


def normalised(code: str) -> list[list[str]]:
    """Tokens of every statement, names the program itself binds replaced by numbers in order of appearance.

    Code that does not parse is cut into its own tokens, line by line.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about invalid escapes in what a model wrote
            tree = ast.parse(code)
        return _Normaliser().lines(tree)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return [line.split() for line in _spaced(code).split("\n") if line.strip()]


def _spaced(code: str) -> str:
    """The tokens of broken code as far as they can be told apart, then the rest by character class."""
    return re.sub(r"(\w+|[^\w\s])", r" \1 ", re.sub(r"#[^\n]*", "", code))


DROPPED_FIELDS = frozenset({"ctx", "type_comment", "annotation", "returns", "kind", "type_ignores"})
SCOPED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
INNER = (ast.Lambda, ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)


class _Normaliser:
    """Walks a module once, in the order of the text."""

    def __init__(self) -> None:
        self._scopes: list[dict[str, str]] = []
        self._lines: list[list[str]] = []

    def lines(self, tree: ast.Module) -> list[list[str]]:
        self._scopes.append(_bound(tree, depth=0))
        self._body(tree.body, depth=0)
        return self._lines

    def _body(self, body: Sequence[ast.stmt], depth: int) -> None:
        for statement in body:
            if not _says_nothing(statement):
                self._statement(statement, depth)

    def _statement(self, statement: ast.stmt, depth: int) -> None:
        line = [f"{depth}:{type(statement).__name__}"]
        self._lines.append(line)
        scope = statement.name if isinstance(statement, SCOPED) else None
        if scope is not None:
            line.append(self._named(scope))
            self._scopes.append(_bound(statement, len(self._scopes)))
        bodies: list[Sequence[ast.stmt]] = []
        for field, value in ast.iter_fields(statement):
            if scope is not None and field == "name":
                continue
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                bodies.append(value)
            elif field == "handlers":
                bodies.extend(self._handler(handler, line) for handler in value)
            else:
                line.extend(self._tokens(field, value))
        for number, body in enumerate(bodies):
            if number:
                self._lines.append([f"{depth}:else"])
            self._body(body, depth + 1)
        if scope is not None:
            self._scopes.pop()

    def _handler(self, handler: ast.ExceptHandler, line: list[str]) -> Sequence[ast.stmt]:
        line.extend(["except", *self._tokens("type", handler.type)])
        return handler.body

    def _tokens(self, field: str, value: object) -> Iterator[str]:
        """Prefix form: the type of the node, then its parts; constants and operators by name."""
        if field in DROPPED_FIELDS:
            return
        match value:
            case None:
                yield "-"  # x[1:] is not x[:1]
            case ast.Name(id=name):
                yield self._named(name)
            case ast.arg(arg=name):
                yield self._named(name)
            case ast.Constant(value=constant):
                yield f"{type(constant).__name__}:{constant!r}"
            case ast.AST() if isinstance(value, INNER):
                self._scopes.append(_bound(value, len(self._scopes)))
                yield from self._node(value)
                self._scopes.pop()
            case ast.AST():
                yield from self._node(value)
            case list():
                for item in value:
                    yield from self._tokens("", item)
                yield ";"
            case _:
                yield self._named(value) if isinstance(value, str) and field == "name" else str(value)

    def _node(self, node: ast.AST) -> Iterator[str]:
        yield type(node).__name__
        for field, value in ast.iter_fields(node):
            yield from self._tokens(field, value)

    def _named(self, name: str) -> str:
        """Its number in the innermost scope that binds it; a name from outside (a builtin, an import) as it is."""
        return next((scope[name] for scope in reversed(self._scopes) if name in scope), name)


def _bound(scope: ast.AST, depth: int) -> dict[str, str]:
    """Names that a function, class, lambda or comprehension binds, numbered by first appearance."""
    names: dict[str, None] = {}
    pending = list(ast.iter_child_nodes(scope))[::-1]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.arg):
            names.setdefault(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.setdefault(node.name)
        elif isinstance(node, SCOPED):
            names.setdefault(node.name)
            continue  # what is inside is its own
        elif isinstance(node, INNER):
            continue
        pending.extend(list(ast.iter_child_nodes(node))[::-1])
    return {name: f"@{depth}.{number}" for number, name in enumerate(names)}


def _says_nothing(statement: ast.stmt) -> bool:
    """A docstring, or a second name for a function (`f = solve`)."""
    match statement:
        case ast.Expr(value=ast.Constant()) | ast.Assign(targets=[ast.Name(id="f")], value=ast.Name()):
            return True
        case _:
            return False


# Words

TEXT_WEIGHTS = {"words": 0.4, "pairs": 0.3, "threes": 0.2, "whole": 0.1}
STOP_WORDS = frozenset({
    "a", "an", "the", "of", "to", "in", "on", "at", "for", "by", "with", "from", "and", "or", "is", "are", "be", "as",
    "it", "its", "this", "that", "these", "those", "then", "return", "given", "write", "function", "f", "input",
    "output", "python", "list", "your", "you",
})  # fmt: skip
SUFFIXES = ("ations", "ation", "ings", "ing", "edly", "ed", "ies", "es", "ly", "s", "e")
WORD = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+|[^\w\s]")
MARKS = frozenset(".,;:!?'\"`()[]{}*_#")


def text_scales(text: str) -> list[Scale]:
    words = [_stem(word) for word in WORD.findall(text.lower()) if word not in STOP_WORDS and word not in MARKS]
    features = (words, _grams(words, 2), _grams(words, 3), [" ".join(words)] if words else [])
    return list(zip(TEXT_WEIGHTS.values(), features, strict=True))


def _stem(word: str) -> str:
    suffix = next((s for s in SUFFIXES if word.endswith(s) and len(word) - len(s) >= 3), "")
    return word[: len(word) - len(suffix)] if suffix else word


def _grams(items: Sequence[str], n: int) -> list[str]:
    return ["\n".join(items[start : start + n]) for start in range(len(items) - n + 1)]


# What was accepted


Similarities: TypeAlias = NDArray[np.float64]


def fused_by_mean(texts: Similarities, codes: Similarities, text_weight: float) -> Similarities:
    return text_weight * texts + (1 - text_weight) * codes


def fused_by_any(texts: Similarities, codes: Similarities, _: float) -> Similarities:
    return np.maximum(texts, codes)


def fused_by_all(texts: Similarities, codes: Similarities, _: float) -> Similarities:
    return np.minimum(texts, codes)


FUSE = {"mean": fused_by_mean, "any": fused_by_any, "all": fused_by_all}


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The nearest item accepted so far; id "" where there is none."""

    similarity: float = 0.0
    id: str = ""
    duplicate: bool = False


class NoveltyArchive:
    """Every item ever accepted, searched exactly: one matrix product over all of them."""

    def __init__(self, embedder: Embedder, cfg: NoveltyConfig) -> None:
        self._embedder = embedder
        self._cfg = cfg
        self._ids: list[str] = []
        self._rungs: list[str] = []
        self._texts = np.empty((0, 0), np.float32)
        self._codes = np.empty((0, 0), np.float32)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, accepted: Sequence[Proposal]) -> None:
        if not accepted:
            return
        texts, codes = self._embed(accepted)
        self._texts = _grown(self._texts, len(self), texts)
        self._codes = _grown(self._codes, len(self), codes)
        self._ids += [proposal.id for proposal in accepted]
        self._rungs += [proposal.rung for proposal in accepted]

    def nearest(self, proposals: Sequence[Proposal]) -> list[Neighbour]:
        """For each, the most similar accepted item in scope."""
        found = []
        for proposal, row in zip(proposals, self._similarities(proposals), strict=True):
            in_scope = np.where(self._in_scope(proposal.rung, self._rungs), row, -1.0)
            found.append(self._neighbour(in_scope, self._ids))
        return found

    def screen(self, proposals: Sequence[Proposal]) -> list[Neighbour]:
        """As `nearest`, where each is also compared with those before it in the batch that are no duplicates."""
        if not proposals:
            return []
        texts, codes = self._embed(proposals)
        among = self._fuse(texts @ texts.T, codes @ codes.T)
        ids = [proposal.id for proposal in proposals]
        rungs = [proposal.rung for proposal in proposals]
        fresh = np.zeros(len(proposals), bool)
        screened = []
        for place, accepted in enumerate(self.nearest(proposals)):
            earlier = np.where(fresh & self._in_scope(rungs[place], rungs), among[place], -1.0)
            neighbour = max(accepted, self._neighbour(earlier, ids), key=lambda near: near.similarity)
            fresh[place] = not neighbour.duplicate
            screened.append(neighbour)
        return screened

    def dissimilarity(self, proposals: Sequence[Proposal], rung: str) -> float:
        """Mean over the batch of the mean over that rung's accepted items of 1 - similarity (arXiv:2603.15957 Eq. 7).

        Call it before the batch is added; 1 where there is nothing to compare.
        """
        members = np.array([name == rung for name in self._rungs], bool)
        if not proposals or not members.any():
            return 1.0
        return round(float(1.0 - self._similarities(proposals)[:, members].mean()), 6)

    def _embed(self, proposals: Sequence[Proposal]) -> tuple[Vectors, Vectors]:
        return self._embedder.embed([(proposal.message, proposal.program) for proposal in proposals])

    def _similarities(self, proposals: Sequence[Proposal]) -> Similarities:
        """One row per proposal, one column per accepted item."""
        if not proposals or not self._ids:
            return np.zeros((len(proposals), len(self._ids)))
        texts, codes = self._embed(proposals)
        return self._fuse(texts @ self._texts[: len(self)].T, codes @ self._codes[: len(self)].T)

    def _fuse(self, texts: Vectors, codes: Vectors) -> Similarities:
        fused = FUSE[self._cfg.fuse](texts.astype(np.float64), codes.astype(np.float64), self._cfg.text_weight)
        return np.round(fused, 6)  # the last bits of a matrix product depend on its shape; a journal must not

    def _in_scope(self, rung: str, rungs: Sequence[str]) -> NDArray[np.bool_]:
        if self._cfg.scope == "union":
            return np.ones(len(rungs), bool)
        return np.array([other == rung for other in rungs], bool)

    def _neighbour(self, similarities: Similarities, ids: Sequence[str]) -> Neighbour:
        if similarities.size == 0:
            return Neighbour()
        place = int(similarities.argmax())
        similarity = float(similarities[place])
        if similarity <= 0:
            return Neighbour()
        return Neighbour(similarity, ids[place], similarity > self._cfg.threshold)


def _grown(matrix: Vectors, used: int, rows: Vectors) -> Vectors:
    """The matrix with these rows after the first `used`; its room doubles when it is full."""
    needed = used + len(rows)
    if needed > len(matrix):
        larger = np.empty((max(needed, 2 * len(matrix)), rows.shape[1]), np.float32)
        if used:  # an empty matrix has no width yet
            larger[:used] = matrix[:used]
        matrix = larger
    matrix[used:needed] = rows
    return matrix
