"""What counts as the same task: the embedder's blind spots are chosen, and its rates are measured."""

import hashlib
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.config import NoveltyConfig
from gasp_rl.problems.microcode.draw import Prior, draw_composition, draw_step
from gasp_rl.problems.microcode.operations import OPERATIONS, REDUCERS, Composition, Family, behaviour
from gasp_rl.rollout import Proposal
from gasp_rl.selfplay.novelty import FUSE, HashedEmbedder, Neighbour, NoveltyArchive, Vectors, normalised

EMBEDDER = HashedEmbedder()
DUPLICATE = NoveltyConfig().threshold

PROGRAM = """
def f(nums, k):
    total = 0
    for v in nums:
        if v % k == 0:
            total += v * v
    return total
"""

texts = st.text(max_size=60) | st.text("def f(x):\n    return=+[]'\"#@\\{}0\0\ud800", max_size=60)


def task(identity: str, message: str = "Add the squares.", program: str = PROGRAM, rung: str = "lemma") -> Proposal:
    return Proposal(id=identity, rung=rung, text="", message=message, program=program)


def code_similarity(one: str, other: str) -> float:
    _, codes = EMBEDDER.embed([("", one), ("", other)])
    return float(codes[0] @ codes[1])


# Normal form


@pytest.mark.parametrize("same", [
    re.sub(r"\bv\b", "item", PROGRAM.replace("nums", "values").replace("total", "acc")),
    PROGRAM.replace("    total = 0", '    """Sum of squares."""\n    total = 0  # start'),
    PROGRAM.replace("def f(nums, k):", "def f(nums: list[int], k: int = 0) -> int:").replace(" = 0) ->", ") ->"),
    PROGRAM.replace("def f", "def solve") + "\nf = solve\n",
    PROGRAM.replace("    ", "  "),
])  # fmt: skip
def test_names_docstrings_annotations_and_layout_make_no_difference(same: str) -> None:
    assert code_similarity(PROGRAM, same) == pytest.approx(1)


@pytest.mark.parametrize(("old", "new"), [
    ("== 0", "== 1"), ("== 0", "!= 0"), ("v * v", "v + v"), ("total += v", "total -= v"), ("% k", "// k"),
    ("return total", "return -total"), ("nums, k", "k, nums"), ("v * v", "v * k"),
])  # fmt: skip
def test_whatever_changes_the_meaning_changes_the_normal_form(old: str, new: str) -> None:
    assert normalised(PROGRAM) != normalised(PROGRAM.replace(old, new))
    assert code_similarity(PROGRAM, PROGRAM.replace(old, new)) < DUPLICATE


@pytest.mark.parametrize(("one", "other"), [
    ("x[1:]", "x[:1]"), ("x[::-1]", "x[-1:]"), ("x[:2:]", "x[::2]"), ("'1'", "1"), ("True", "1"),
    ("sorted(x)", "reversed(x)"),
    ("[v for v in x if v]", "[v for v in x]"), ("(1, 2)", "[1, 2]"), ("sorted(x, key=len)", "sorted(x, key=abs)"),
    ("x.a", "x.b"),
    ("[[b for b in a] for a in x]", "[[a for b in a] for a in x]"), ("lambda a, b: a", "lambda a, b: b"),
])  # fmt: skip
def test_expressions_that_differ_have_different_normal_forms(one: str, other: str) -> None:
    forms = [normalised(f"def f(x):\n    return {expression}") for expression in (one, other)]

    assert forms[0] != forms[1]


def test_a_name_of_a_comprehension_is_its_own_even_where_it_is_used_again() -> None:
    once = "def f(x):\n    x = [v + 1 for v in x]\n    return [v for v in x if v > 2]"

    assert normalised(once) == normalised(once.replace("[v for v in x if v", "[w for w in x if w"))


def test_code_that_does_not_parse_is_compared_by_its_tokens() -> None:
    broken = "def f(x):\n    return x +\n"

    assert code_similarity(broken, broken.replace("x +", "x  +  # cut")) == pytest.approx(1)
    assert code_similarity(broken, PROGRAM) < 0.5


@given(texts, texts)
def test_any_text_has_a_unit_vector(text: str, code: str) -> None:
    for vectors in EMBEDDER.embed([(text, code)]):
        assert np.linalg.norm(vectors[0]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "code",
    ["(" * 5000, "-" * 50_000 + "1", "x" + ".a" * 20_000, "1+" * 20_000 + "1", "\0", "def f(x):\n\treturn '\\d'"],
)
def test_no_code_is_too_odd_to_embed(code: str) -> None:
    EMBEDDER.embed([("", code)])


def test_a_vector_does_not_depend_on_what_is_embedded_with_it() -> None:
    items = [("one", "x = 1"), ("two", PROGRAM), ("three", "")]

    together, alone = EMBEDDER.embed(items), EMBEDDER.embed(items[1:2])

    assert all((many[1] == single[0]).all() for many, single in zip(together, alone, strict=True))


def test_the_digest_names_the_parameters() -> None:
    assert len({HashedEmbedder().digest, HashedEmbedder(seed=1).digest, HashedEmbedder(512).digest}) == 3


# Rates on MicroCode


def rename(program: str, rng: random.Random) -> str:
    names = dict(
        zip("xvwabigr", rng.sample(["nums", "p", "q", "item", "row", "acc", "k2", "out", "y"], 8), strict=True)
    )
    return re.sub(r"\b[xvwabir]\b|\bg\b", lambda name: names[name[0]], program)


def reword(composition: Composition, rng: random.Random) -> str:
    steps = (replace(step, wording=rng.randrange(len(step.operation.wordings))) for step in composition.steps)
    return Composition(tuple(steps), composition.rows).statement


def with_another_constant(composition: Composition, rng: random.Random) -> Composition:
    steps = list(composition.steps)
    places = [place for place, step in enumerate(steps) if len(step.operation.constants) > 1]
    for place in rng.sample(places, min(1, len(places))):
        others = [k for k in steps[place].operation.constants if k != steps[place].constant]
        steps[place] = replace(steps[place], constant=rng.choice(others))
    return replace(composition, steps=tuple(steps))


def with_another_operation(composition: Composition, rng: random.Random) -> Composition:
    steps = list(composition.steps)
    place = rng.randrange(len(steps))
    table = REDUCERS if steps[place].operation.family is Family.REDUCE else OPERATIONS
    steps[place] = draw_step(rng.choice(table), rng)
    return replace(composition, steps=tuple(steps))


def with_two_steps_exchanged(composition: Composition, rng: random.Random) -> Composition:
    steps = list(composition.steps)
    free = len(steps) - (steps[-1].operation.family is Family.REDUCE)
    if free >= 2:
        place = rng.randrange(free - 1)
        steps[place], steps[place + 1] = steps[place + 1], steps[place]
    return replace(composition, steps=tuple(steps))


def unrelated(composition: Composition, rng: random.Random) -> Composition:
    return draw_composition(Prior(1.0), composition.depth, rng)


def compositions(n: int, rng: random.Random) -> list[Composition]:
    return [draw_composition(Prior(1.0), rng.randint(1, 8), rng, rows=0.15) for _ in range(n)]


def share_of_duplicates(pairs: list[tuple[tuple[str, str], tuple[str, str]]]) -> float:
    """By the default settings, each pair alone."""
    found = []
    for (message, program), (other_message, other_program) in pairs:
        archive = NoveltyArchive(EMBEDDER, NoveltyConfig())
        archive.add([task("a", message, program)])
        found.append(archive.nearest([task("b", other_message, other_program)])[0].duplicate)
    return sum(found) / len(found)


def test_renamed_or_reworded_copies_are_duplicates() -> None:
    rng = random.Random(7)
    originals = compositions(300, rng)

    pairs = [((c.statement, c.program), (reword(c, rng), rename(c.program, rng))) for c in originals]

    assert share_of_duplicates(pairs) >= 0.95


@pytest.mark.parametrize("change", [with_another_constant, with_another_operation, with_two_steps_exchanged, unrelated])
def test_tasks_that_behave_differently_are_not_duplicates(
    change: Callable[[Composition, random.Random], Composition],
) -> None:
    rng = random.Random(7)
    pairs = [(c, change(c, rng)) for c in compositions(300, rng)]

    different = [(a, b) for a, b in pairs if behaviour(a) != behaviour(b)]

    assert len(different) >= 100
    assert share_of_duplicates([((a.statement, a.program), (b.statement, b.program)) for a, b in different]) <= 0.01


# The archive


def test_nothing_resembles_an_empty_archive() -> None:
    archive = NoveltyArchive(EMBEDDER, NoveltyConfig())

    (neighbour,) = archive.nearest([task("a")])

    assert (neighbour.similarity, neighbour.id, neighbour.duplicate) == (0.0, "", False)
    assert archive.dissimilarity([task("a")], "lemma") == 1.0


def test_an_archive_names_the_nearest_of_all_it_ever_accepted() -> None:
    rng = random.Random(1)
    accepted = [task(str(n), c.statement, c.program) for n, c in enumerate(compositions(50, rng))]
    archive = NoveltyArchive(EMBEDDER, NoveltyConfig())
    for one in accepted:
        archive.add([one])

    found = archive.nearest(accepted)

    assert len(archive) == 50
    assert all(near.similarity == pytest.approx(1) and near.duplicate for near in found)
    assert all(accepted[int(near.id)].program == one.program for near, one in zip(found, accepted, strict=True))


def test_adding_one_by_one_or_all_at_once_is_the_same() -> None:
    rng = random.Random(2)
    items = [task(str(n), c.statement, c.program) for n, c in enumerate(compositions(20, rng))]
    slowly, at_once = NoveltyArchive(EMBEDDER, NoveltyConfig()), NoveltyArchive(EMBEDDER, NoveltyConfig())

    for item in items[:15]:
        slowly.add([item])
    at_once.add(items[:15])

    assert slowly.nearest(items[15:]) == at_once.nearest(items[15:])


def test_the_second_of_two_alike_in_a_batch_is_the_duplicate() -> None:
    archive = NoveltyArchive(EMBEDDER, NoveltyConfig())

    first, second, third = archive.screen([task("a"), task("b"), task("c", "Count.", "def f(x):\n    return len(x)")])

    assert not first.duplicate
    assert (second.id, second.duplicate) == ("a", True)
    assert not third.duplicate
    assert len(archive) == 0  # screening accepts nothing


def test_a_similarity_equal_to_the_threshold_is_still_new() -> None:
    archive = NoveltyArchive(EMBEDDER, NoveltyConfig(threshold=1.0))
    archive.add([task("a")])

    (neighbour,) = archive.nearest([task("b")])

    assert neighbour.similarity == 1.0
    assert not neighbour.duplicate


@pytest.mark.parametrize(("scope", "duplicate"), [("union", True), ("own", False)])
def test_the_scope_decides_whether_a_lift_may_repeat_a_lemma(
    scope: Literal["union", "own"], *, duplicate: bool
) -> None:
    archive = NoveltyArchive(EMBEDDER, NoveltyConfig(scope=scope))
    archive.add([task("a", rung="lemma")])

    assert archive.nearest([task("b", rung="lift")])[0].duplicate is duplicate
    assert archive.screen([task("b", rung="lift")])[0].duplicate is duplicate


@pytest.mark.parametrize(("fuse", "same_text", "same_code", "both"), [
    ("mean", False, True, True), ("any", True, True, True), ("all", False, False, True),
])  # fmt: skip
def test_text_and_code_join_as_the_settings_say(
    fuse: Literal["mean", "any", "all"], *, same_text: bool, same_code: bool, both: bool,
) -> None:  # fmt: skip
    other = "Reverse the words of a sentence", "def f(s):\n    return ' '.join(s.split()[::-1])"
    archive = NoveltyArchive(EMBEDDER, NoveltyConfig(fuse=fuse, text_weight=0.04))
    archive.add([task("a", "Add the squares")])

    found = archive.nearest([
        task("text", "Adding the square", other[1]), task("code", other[0]), task("both", "Adding the square"),
    ])  # fmt: skip

    assert [near.duplicate for near in found] == [same_text, same_code, both]


def test_dissimilarity_is_the_mean_distance_to_one_rungs_items() -> None:
    rng = random.Random(3)
    lemmas = [task(str(n), c.statement, c.program) for n, c in enumerate(compositions(4, rng))]
    archive = NoveltyArchive(EMBEDDER, NoveltyConfig())
    archive.add([*lemmas, task("lift", rung="lift")])

    single = []
    for lemma in lemmas:
        alone = NoveltyArchive(EMBEDDER, NoveltyConfig())
        alone.add([lemma])
        single.append(1 - alone.nearest([task("new")])[0].similarity)

    assert archive.dissimilarity([task("new")], "lemma") == pytest.approx(np.mean(single), abs=1e-5)
    assert archive.dissimilarity([task("new")], "lift") == pytest.approx(0, abs=1e-5)


# Exactness: sums of multiples of 1/16 have no rounding error, so what follows is equality, not nearness


class Signs:
    """Every content is a corner of a cube in 16 dimensions: +-1/4 in each, chosen by its hash. Few enough to tie often."""

    name = "signs"
    digest = ""

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, texts_and_codes: Sequence[tuple[str, str]]) -> tuple[Vectors, Vectors]:
        self.embedded += len(texts_and_codes)
        texts, codes = ([self.corner(content[which]) for content in texts_and_codes] for which in (0, 1))
        return np.array(texts, np.float32).reshape(-1, 16), np.array(codes, np.float32).reshape(-1, 16)

    @staticmethod
    def corner(content: str) -> list[float]:
        bits = int.from_bytes(hashlib.sha256(content.encode()).digest()[:2], "big")
        return [0.25 if bits >> place & 1 else -0.25 for place in range(16)]


def similarity(one: Proposal, other: Proposal, cfg: NoveltyConfig) -> float:
    """By the definition, in integers as far as it goes."""
    cosines = [
        np.array([[float(np.dot(Signs.corner(a), Signs.corner(b)))]])
        for a, b in ((one.message, other.message), (one.program, other.program))
    ]
    return round(float(FUSE[cfg.fuse](cosines[0], cosines[1], cfg.text_weight)[0, 0]), 6)


def nearest_by_hand(one: Proposal, accepted: Sequence[Proposal], cfg: NoveltyConfig) -> Neighbour:
    """Every accepted item in scope is looked at; the first of the most similar ones counts."""
    found = Neighbour()
    for other in accepted:
        if (cfg.scope == "union" or other.rung == one.rung) and (
            near := similarity(one, other, cfg)
        ) > found.similarity:
            found = Neighbour(near, other.id, near > cfg.threshold)
    return found


settings = st.builds(
    NoveltyConfig, threshold=st.sampled_from([0.0, 0.3, 0.5, 0.95]), fuse=st.sampled_from(["mean", "any", "all"]),
    scope=st.sampled_from(["union", "own"]),
)  # fmt: skip
rungs = st.sampled_from(["lemma", "lift", "leap"])
tasks = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("stuvwxyz"), rungs), max_size=14).map(
    lambda drawn: [task(str(n), message, program, rung) for n, (message, program, rung) in enumerate(drawn)]
)


@given(settings, tasks, st.integers(0, 14), st.integers(1, 6))
def test_the_nearest_is_that_of_looking_at_all(cfg: NoveltyConfig, items: list[Proposal], n: int, block: int) -> None:
    archive = NoveltyArchive(Signs(), cfg, block)
    accepted, asked = items[:n], items[n:]
    archive.add(accepted[: n // 2])
    archive.add(accepted[n // 2 :])

    assert archive.nearest(asked) == [nearest_by_hand(one, accepted, cfg) for one in asked]


@given(settings, tasks, st.integers(0, 14), st.integers(1, 6))
def test_screening_a_batch_is_asking_and_adding_one_by_one(
    cfg: NoveltyConfig, items: list[Proposal], n: int, block: int
) -> None:
    at_once, one_by_one = NoveltyArchive(Signs(), cfg, block), NoveltyArchive(Signs(), cfg, block)
    for archive in (at_once, one_by_one):
        archive.add(items[:n])

    screened = at_once.screen(items[n:])

    for one, neighbour in zip(items[n:], screened, strict=True):
        assert [neighbour] == one_by_one.nearest([one])
        one_by_one.add([] if neighbour.duplicate else [one])


@given(settings, tasks, st.integers(0, 14), st.integers(1, 6), rungs)
def test_dissimilarity_is_that_of_all_pairs(
    cfg: NoveltyConfig, items: list[Proposal], n: int, block: int, rung: str
) -> None:
    archive = NoveltyArchive(Signs(), cfg, block)
    archive.add(items[:n])

    distances = [1 - similarity(a, b, cfg) for a in items[n:] for b in items[:n] if b.rung == rung]

    expected = np.mean(distances) if distances else 1.0
    assert archive.dissimilarity(items[n:], rung) == pytest.approx(expected, abs=1e-6)


def exact(some: list[Proposal], others: list[Proposal]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """In 64 bits, pair by pair: no product of matrices whose last bits depend on its shape."""
    vectors = [
        [vectors.astype(np.float64) for vectors in EMBEDDER.embed([(item.message, item.program) for item in items])]
        for items in (some, others)
    ]
    (texts, codes), (other_texts, other_codes) = vectors
    fused = [
        [0.04 * float(t @ u) + 0.96 * float(c @ d) for u, d in zip(other_texts, other_codes, strict=True)]
        for t, c in zip(texts, codes, strict=True)
    ]
    return np.round(fused, 6)


def test_similarities_are_exact_to_the_last_digit_whatever_the_batch() -> None:
    rng = random.Random(4)
    items = [task(str(n), c.statement, c.program) for n, c in enumerate(compositions(160, rng))]
    accepted, asked = items[:100], items[100:]
    archive = NoveltyArchive(EMBEDDER, NoveltyConfig(threshold=1.0), block=32)
    archive.add(accepted)

    together = archive.nearest(asked)
    alone = [archive.nearest([one])[0] for one in asked]

    pairs = exact(asked, accepted)
    assert together == alone
    assert [near.similarity for near in together] == pairs.max(axis=1).tolist()
    assert [int(near.id) for near in together] == pairs.argmax(axis=1).tolist()
    assert archive.dissimilarity(asked, "lemma") == pytest.approx(1 - pairs.mean(), abs=1.1e-6)
    assert [near.similarity for near in archive.screen(asked)] == [
        max(pairs[row].max(), exact([one], asked[:row]).max(initial=0.0)) for row, one in enumerate(asked)
    ]


def test_a_teacher_that_repeats_itself_costs_no_more() -> None:
    """With rejection off everything is accepted: a thousand copies are as near as one."""
    archive = NoveltyArchive(EMBEDDER, NoveltyConfig(), block=64)
    archive.add([task(str(n), rung=("lemma", "lift")[n % 2]) for n in range(1000)])

    (neighbour,) = archive.nearest([task("again")])

    assert (neighbour.similarity, neighbour.id) == (1.0, "0")
    assert archive.dissimilarity([task("again")], "lift") == 0.0
    assert sum(int(block.first[: block.used].sum()) for block in archive._blocks) == 2


def test_a_long_run_embeds_no_more_than_a_short_one() -> None:
    embedder = Signs()
    archive = NoveltyArchive(embedder, NoveltyConfig(threshold=1.0))
    past = [task(str(n), f"say {n}", f"return {n}") for n in range(9000)]
    archive.add(past)
    embedder.embedded = 0

    fresh = [task(f"new {n}", f"say {n}", f"return -{n}") for n in range(10)]
    screened = archive.screen(fresh)
    archive.dissimilarity(fresh[:5], "lemma")
    archive.add(fresh[:5])

    assert embedder.embedded == len(fresh)
    assert screened == [nearest_by_hand(one, [*past, *fresh[:place]], NoveltyConfig(threshold=1.0))
                        for place, one in enumerate(fresh)]  # fmt: skip
    assert len(archive) == 9005
