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
    """RungNumbers that a function, class, lambda or comprehension binds, numbered by first appearance."""
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


Similarities: TypeAlias = NDArray[np.float32 | np.float64]
RungNumbers: TypeAlias = NDArray[np.int32]
"""One per item, equal for items of the same rung."""
_Content: TypeAlias = tuple[str, str]
"""Message and program: all that the vectors depend on."""


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


BLOCK = 4096
"""Items compared in one matrix product: their similarities to a batch stay in the processor's cache."""


@dataclass(slots=True)
class _Block:
    """Accepted items, side by side; the room behind the last one is not yet used."""

    texts: Vectors
    codes: Vectors
    rungs: RungNumbers
    first: NDArray[np.bool_]
    """Not equal to an earlier item of its rung, in any block."""
    used: int = 0

    @property
    def room(self) -> int:
        return len(self.rungs) - self.used

    def add(self, texts: Vectors, codes: Vectors, rungs: RungNumbers, first: Sequence[bool]) -> None:
        place = slice(self.used, self.used + len(rungs))
        self.texts[place], self.codes[place], self.rungs[place], self.first[place] = texts, codes, rungs, first
        self.used += len(rungs)


@dataclass(slots=True)
class _Sums:
    """Of the vectors of one rung's items."""

    items: int = 0
    texts: Similarities | float = 0.0
    codes: Similarities | float = 0.0

    def add(self, texts: Vectors, codes: Vectors) -> None:
        self.items += len(texts)
        self.texts = self.texts + texts.sum(axis=0, dtype=np.float64)
        self.codes = self.codes + codes.sum(axis=0, dtype=np.float64)


class NoveltyArchive:
    """Every item ever accepted, searched exactly: a matrix product over all of them, a block at a time.

    The product is one of 32-bit numbers, whose last bits depend on the processor and on what else is in it. So it only says
    which items can be the nearest; their similarities are then computed in 64 bits.
    """

    def __init__(self, embedder: Embedder, cfg: NoveltyConfig, block: int = BLOCK) -> None:
        self._embedder = embedder
        self._cfg = cfg
        self._block = block
        self._ids: list[str] = []
        self._rungs: dict[str, int] = {}
        self._blocks: list[_Block] = []
        self._sums: dict[int, _Sums] = {}
        self._seen: set[bytes] = set()
        """Digests of all vectors with their rungs: where a teacher repeats itself, one item stands for its copies."""
        self._screened: dict[_Content, tuple[Vectors, Vectors]] = {}
        """Vectors of the last batch that was screened: what of it is accepted need not be embedded again."""

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, accepted: Sequence[Proposal]) -> None:
        start = 0
        while start < len(accepted):
            room = self._blocks[-1].room if self._blocks else 0
            part = accepted[start : start + (room or self._block)]
            texts, codes = self._embed(part)
            if not room:
                self._blocks.append(_empty_block(self._block, texts.shape[1], codes.shape[1]))
            rungs = self._numbers(part)
            self._blocks[-1].add(texts, codes, rungs, self._new(texts, codes, rungs))
            for rung in np.unique(rungs).tolist():
                self._sums.setdefault(rung, _Sums()).add(texts[rungs == rung], codes[rungs == rung])
            self._ids += [proposal.id for proposal in part]
            start += len(part)

    def nearest(self, proposals: Sequence[Proposal]) -> list[Neighbour]:
        """For each, the most similar accepted item in scope; the earliest of several."""
        if not proposals:
            return []
        texts, codes = self._embed(proposals)
        rungs = self._numbers(proposals)
        places, highest = [0] * len(proposals), [0.0] * len(proposals)
        start = 0
        for block in self._blocks:
            roughly = self._fuse(texts @ block.texts[: block.used].T, codes @ block.codes[: block.used].T)
            self._leave_out_of_scope(roughly, rungs, block.rungs[: block.used])
            roughly[:, ~block.first[: block.used]] = -1.0
            for row, most in enumerate(roughly.max(axis=1).tolist()):
                least = max(most, highest[row]) - _doubt(texts, codes)
                if most < least:  # nothing here can be the nearest
                    continue
                near = np.flatnonzero(roughly[row] >= least)
                exactly = self._exactly(
                    texts[row : row + 1], codes[row : row + 1], block.texts[near], block.codes[near]
                )
                first = int(exactly.argmax())
                if exactly[0, first] > highest[row]:
                    places[row], highest[row] = start + int(near[first]), float(exactly[0, first])
            start += block.used
        return [
            self._neighbour(similarity, self._ids[place] if self._ids else "")
            for similarity, place in zip(highest, places, strict=True)
        ]

    def screen(self, proposals: Sequence[Proposal]) -> list[Neighbour]:
        """As `nearest`, where each is also compared with those before it in the batch that are no duplicates."""
        if not proposals:
            return []
        texts, codes = self._embed(proposals)
        self._screened = dict(zip(map(_content, proposals), zip(texts, codes, strict=True), strict=True))

        among = self._exactly(texts, codes, texts, codes)
        rungs = self._numbers(proposals)
        self._leave_out_of_scope(among, rungs, rungs)
        fresh = np.zeros(len(proposals), bool)
        screened = []
        for place, accepted in enumerate(self.nearest(proposals)):
            earlier = np.where(fresh, among[place], -1.0)
            first = int(earlier.argmax())
            neighbour = max(
                accepted, self._neighbour(float(earlier[first]), proposals[first].id), key=lambda near: near.similarity
            )
            fresh[place] = not neighbour.duplicate
            screened.append(neighbour)
        return screened

    def dissimilarity(self, proposals: Sequence[Proposal], rung: str) -> float:
        """Mean over the batch of the mean over that rung's accepted items of 1 - similarity (arXiv:2603.15957 Eq. 7).

        Call it before the batch is added; 1 where there is nothing to compare.
        """
        sums = self._sums.get(self._rungs.get(rung, -1))
        if not proposals or sums is None:
            return 1.0
        texts, codes = self._embed(proposals)
        similarities: Similarities
        if self._cfg.fuse == "mean":  # which is linear: the mean of the cosines is the cosine to the mean
            means = sums.texts / sums.items, sums.codes / sums.items
            similarities = self._fuse(texts.astype(np.float64) @ means[0], codes.astype(np.float64) @ means[1])
        else:
            similarities = np.concatenate([
                self._exactly(texts, codes, block.texts[own], block.codes[own])
                for block in self._blocks
                for own in [np.flatnonzero(block.rungs[: block.used] == self._rungs[rung])]
            ], axis=1)  # fmt: skip
        return round(1.0 - float(similarities.mean(dtype=np.float64)), 6)

    def _embed(self, proposals: Sequence[Proposal]) -> tuple[Vectors, Vectors]:
        new = list({content: None for content in map(_content, proposals) if content not in self._screened})
        known = self._screened
        if new:
            known = known | dict(zip(new, zip(*self._embedder.embed(new), strict=True), strict=True))
        texts, codes = zip(*(known[_content(proposal)] for proposal in proposals), strict=True)
        return np.stack(texts), np.stack(codes)

    def _new(self, texts: Vectors, codes: Vectors, rungs: RungNumbers) -> list[bool]:
        new = []
        for row in zip(texts, codes, rungs, strict=True):
            digest = hashlib.blake2b(b"".join(part.tobytes() for part in row), digest_size=16).digest()
            new.append(digest not in self._seen)
            self._seen.add(digest)
        return new

    def _numbers(self, proposals: Sequence[Proposal]) -> RungNumbers:
        """Of their rungs."""
        return np.array([self._rungs.setdefault(p.rung, len(self._rungs)) for p in proposals], np.int32)

    def _fuse(self, texts: Similarities, codes: Similarities) -> Similarities:
        return FUSE[self._cfg.fuse](texts, codes, self._cfg.text_weight)

    def _exactly(self, texts: Vectors, codes: Vectors, other_texts: Vectors, other_codes: Vectors) -> Similarities:
        """To six digits that no processor, thread or batch changes: a journal must not depend on them."""
        wide = [vectors.astype(np.float64) for vectors in (texts, codes, other_texts, other_codes)]
        return np.round(self._fuse(wide[0] @ wide[2].T, wide[1] @ wide[3].T), 6)

    def _leave_out_of_scope(self, similarities: Similarities, rows: RungNumbers, columns: RungNumbers) -> None:
        if self._cfg.scope == "own":
            similarities[rows[:, None] != columns] = -1.0

    def _neighbour(self, similarity: float, identity: str) -> Neighbour:
        if similarity <= 0:
            return Neighbour()
        return Neighbour(similarity, identity, similarity > self._cfg.threshold)


def _doubt(texts: Vectors, codes: Vectors) -> float:
    """Two similarities of 32 bits that differ by more than this are in the right order: a sum of d products of unit
    vectors is off by d roundings at most (Higham, Accuracy and Stability, 3.1).
    """
    dimensions: int = max(texts.shape[1], codes.shape[1])
    return 2 * (dimensions + 4) * 2.0**-24


def _content(proposal: Proposal) -> _Content:
    return proposal.message, proposal.program


def _empty_block(items: int, text_dimensions: int, code_dimensions: int) -> _Block:
    return _Block(
        np.empty((items, text_dimensions), np.float32),  # memory that is not used costs nothing
        np.empty((items, code_dimensions), np.float32),
        np.empty(items, np.int32),
        np.empty(items, np.bool_),
    )
