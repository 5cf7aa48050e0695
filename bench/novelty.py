"""What does it cost to ask whether a task is new, when so many were accepted before?

    OMP_NUM_THREADS=1 python bench/novelty.py [--dimensions N] [--batch N] [--accepted N] [--rounds N]

A round is what a rung does with a batch of candidates: screen them all, measure the dissimilarity of the accepted ones, and
add these. Vectors are random and drawn beforehand, so that only the archive is measured; the last table is the hashed
embedder alone, on programs of the embedded world. Times are the median of the rounds.
"""

import argparse
import random
import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import numpy as np

from gasp_rl.config import NoveltyConfig
from gasp_rl.problems.microcode.draw import Prior, draw_composition
from gasp_rl.rollout import Proposal
from gasp_rl.selfplay.novelty import HashedEmbedder, NoveltyArchive, Vectors

SIZES = (1_000, 10_000, 30_000, 100_000)


class Drawn:
    """Random unit vectors, one for each message, which is a number."""

    name = "drawn"
    digest = ""

    def __init__(self, items: int, dimensions: int) -> None:
        rng = np.random.default_rng(0)
        self._texts, self._codes = (_unit(rng.standard_normal((items, dimensions), np.float32)) for _ in range(2))

    def embed(self, texts_and_codes: Sequence[tuple[str, str]]) -> tuple[Vectors, Vectors]:
        places = [int(text) for text, _ in texts_and_codes]
        return self._texts[places], self._codes[places]


def _unit(rows: Vectors) -> Vectors:
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def cost(rounds: Sequence[Callable[[], object]]) -> tuple[float, float]:
    """Median seconds and CPU seconds."""
    wall, cpu = [], []
    for one in rounds:
        started = time.perf_counter(), time.process_time()
        one()
        wall.append(time.perf_counter() - started[0])
        cpu.append(time.process_time() - started[1])
    return median(wall), median(cpu)


def archive_costs(dimensions: int, batch: int, accepted: int, rounds: int) -> None:
    items = [Proposal(str(number), "lemma", "", message=str(number)) for number in range(SIZES[-1] + batch * rounds)]
    drawn = Drawn(len(items), dimensions)
    archive = NoveltyArchive(drawn, NoveltyConfig())

    def climb(candidates: Sequence[Proposal]) -> None:
        archive.screen(candidates)
        archive.dissimilarity(candidates[:accepted], "lemma")
        archive.add(candidates[:accepted])

    print(f"{batch} candidates of dimension {dimensions}, {accepted} of them accepted")
    print(f"{'accepted before':>16}{'ms per candidate':>18}{'CPU ms':>8}{'GiB resident':>14}")
    for size in SIZES:
        archive.add(items[len(archive) : size])
        fresh = [items[SIZES[-1] + batch * number :][:batch] for number in range(rounds)]
        wall, cpu = cost([partial(climb, candidates) for candidates in fresh])
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{size:>16,}{1000 * wall / batch:>18.2f}{1000 * cpu / batch:>8.2f}{resident:>14.2f}")


def embedder_cost(batch: int, rounds: int) -> None:
    rng = random.Random(0)
    compositions = [draw_composition(Prior(1.0), rng.randint(1, 8), rng) for _ in range(batch * rounds)]
    pairs = [(one.statement, one.program) for one in compositions]
    embedder = HashedEmbedder()
    parts = [pairs[place : place + batch] for place in range(0, len(pairs), batch)]
    wall, cpu = cost([partial(embedder.embed, part) for part in parts])
    print(f"\nhashed embedder: {1000 * wall / batch:.2f} ms per item, {1000 * cpu / batch:.2f} of CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, default=768)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--accepted", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    archive_costs(asked.dimensions, asked.batch, asked.accepted, asked.rounds)
    embedder_cost(asked.batch, asked.rounds)


if __name__ == "__main__":
    main()
