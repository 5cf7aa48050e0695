"""Who does what: work dealt to several processes by its size alone, so that equal runs deal alike."""

from collections.abc import Hashable, Sequence

from gasp_rl.policy.engine import SampleRequest, TrainItem


def dealt(sizes: Sequence[int], kin: Sequence[Hashable], hands: int) -> list[list[int]]:
    """Places of the work of each hand, in order. The largest goes first, each to whoever has least.

    Work of one kin stays together, unless that is more than a hand's share of all.

    >>> dealt([5, 1, 1, 4], "abca", 2)
    [[0], [1, 2, 3]]
    """
    families: dict[Hashable, list[int]] = {}
    for place, name in enumerate(kin):
        families.setdefault(name, []).append(place)
    fair = sum(sizes) / hands
    lots: list[list[int]] = []
    for family in families.values():
        whole = sum(sizes[place] for place in family) <= fair
        lots += [family] if whole else [[place] for place in family]

    loads = [0] * hands
    found: list[list[int]] = [[] for _ in range(hands)]
    for lot in sorted(lots, key=lambda lot: (-sum(sizes[place] for place in lot), lot)):
        hand = loads.index(min(loads))
        loads[hand] += sum(sizes[place] for place in lot)
        found[hand] += lot
    return [sorted(places) for places in found]


def deal_items(items: Sequence[TrainItem], hands: int) -> list[list[int]]:
    """By tokens; items of one prompt together, since a learner runs it once for all of them."""
    sizes = [len(item.prompt) + len(item.completion) for item in items]
    return dealt(sizes, [item.prompt for item in items], hands)


def deal_requests(requests: Sequence[SampleRequest], hands: int) -> list[list[int]]:
    """By the most tokens that they may take."""
    sizes = [len(request.prompt) + request.n * request.params.max_tokens for request in requests]
    return dealt(sizes, range(len(requests)), hands)
