import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gasp_rl.report.ladders import packed
from gasp_rl.report.story import ALIKE, Card, Story
from gasp_rl.rollout import Iteration, Phase, Proposal, Rejection
from gasp_rl.runs.journal import IterationRecord, Journal


def iteration(step: int, *proposals: Proposal) -> IterationRecord:
    return IterationRecord(Iteration(step, (Phase("lemma", proposals),)))


def written(name: str, rejection: Rejection | None = None, neighbour: str = "", message: str = "") -> Proposal:
    return Proposal(
        name, "lemma", "t", goalpost="g", parent="g", message=message, rejection=rejection, neighbour=neighbour
    )


def test_of_many_siblings_rejected_alike_a_few_are_kept_and_all_are_counted() -> None:
    many = [written(f"p{i}", Rejection.TOO_HARD) for i in range(50)]

    shelf = Story([iteration(1, *many), iteration(2, *many)]).shelves["g"]

    assert len(shelf.rejected) == 2 * ALIKE
    assert shelf.why == {"too_hard": 100}


@pytest.mark.parametrize("rejection", [None, Rejection.TOO_EASY])
def test_the_neighbour_of_a_proposal_is_named_by_what_it_asks(rejection: Rejection | None) -> None:
    first = written("a", rejection, message="sort it")
    story = Story([iteration(1, first, written("b", Rejection.DUPLICATE, neighbour="a"))])

    card = msgspec.json.decode(story.shelves["g"].rejected[-1].card, type=Card)

    assert card.near == "sort it"


def test_numbers_keep_no_texts(run: Journal) -> None:
    journal = Story(run.records).journal

    assert not any(p.program or p.text for i in journal.iterations for phase in i.phases for p in phase.proposals)
    assert [i.step for i in journal.iterations] == [i.step for i in run.iterations]


@settings(deadline=None, max_examples=25)
@given(room=st.integers(20_000, 400_000))
def test_packs_fit_their_room_and_every_proposal_is_shown_or_counted(run: Journal, room: int) -> None:
    story = Story(run.records)

    found = packed(story, story.journal, room)

    assert found.size <= room
    assert found.whole or found.left_out > 0
