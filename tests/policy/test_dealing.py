"""Work dealt by its size alone."""

from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.policy.dealing import dealt

WORK = st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 4)), max_size=40)


@given(WORK, st.integers(1, 8))
def test_every_piece_is_dealt_once_and_no_hand_has_more_than_its_share_and_one_lot(
    work: list[tuple[int, int]], hands: int
) -> None:
    sizes, kin = [size for size, _ in work], [name for _, name in work]

    found = dealt(sizes, kin, hands)

    assert sorted(place for places in found for place in places) == list(range(len(work)))
    fair = sum(sizes) / hands
    loads = [sum(sizes[place] for place in places) for places in found]
    assert len(found) == hands
    assert max(loads) <= fair + max([*sizes, fair])


@given(WORK, st.integers(1, 8))
def test_work_of_one_kin_stays_together_unless_it_is_more_than_a_share(work: list[tuple[int, int]], hands: int) -> None:
    sizes, kin = [size for size, _ in work], [name for _, name in work]
    found = dealt(sizes, kin, hands)

    for name in set(kin):
        family = {place for place, other in enumerate(kin) if other == name}
        holders = sum(bool(family & set(places)) for places in found)
        if sum(sizes[place] for place in family) <= sum(sizes) / hands:
            assert holders == 1


@given(st.integers(1, 6), st.integers(1, 8))
def test_equal_pieces_are_dealt_by_turns(rounds: int, hands: int) -> None:
    count = rounds * hands

    assert dealt([7] * count, range(count), hands) == [list(range(hand, count, hands)) for hand in range(hands)]
