import io
from itertools import count

import pytest
from rich.console import Console

from gasp_rl.progress import Observer
from gasp_rl.report.live import LiveView
from gasp_rl.runs.journal import EvaluationRecord, IterationRecord, Journal


def replayed(journal: Journal, view: Observer) -> None:
    """Tell a view what a journal says, as the loop would have."""
    for record in journal.records:
        match record:
            case IterationRecord(iteration):
                view.iteration(iteration.step, 20)
                for phase in iteration.phases:
                    view.phase(phase.name)
                    for done, proposal in enumerate(phase.proposals, start=1):
                        view.sampling(9, 60, 60)
                        view.proposal(proposal)
                        view.progress(done, len(phase.proposals))
                    for answer in phase.answers:
                        view.answer(answer)
                view.iterated(iteration)
            case EvaluationRecord(evaluation):
                view.phase("evaluate")
                view.evaluation(evaluation)
            case _:
                view.note("a note\x1b[31m")


def drawn(run: Journal, *, terminal: bool) -> str:
    """What a console of 80 columns got."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80, height=40, color_system=None, legacy_windows=False)
    clock = count(step=0.1)
    with LiveView("gasp demo", console, clock=lambda: next(clock)) as view:
        replayed(run, view)
        if terminal:
            console.print(view._panel())
    return out.getvalue()


def test_without_a_terminal_it_is_one_plain_line_per_iteration_and_evaluation(run: Journal) -> None:
    lines = drawn(run, terminal=False).splitlines()

    assert sum(line.lstrip().startswith("7  lemma ") for line in lines) == 1
    assert "base  goalposts: 0 of 16 solved, 0 so far" in lines
    assert "  20  goalposts: 3 of 16 solved, 3 so far" in lines
    assert "  20  base model, same draws: 1 of 16 goalposts solved" in lines
    assert len(lines) == 1 + 20 + 11 + 2


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_model_wrote_cannot_command_the_terminal(run: Journal, terminal: bool) -> None:
    assert "\x1b[31m" not in drawn(run, terminal=terminal)


def test_the_panel_shows_counts_reasons_and_standings_in_eighty_columns(run: Journal) -> None:
    panel = drawn(Journal(run.records[:8]), terminal=True)

    for words in (
        "iteration 5 of 20",
        "written  accepted  broken  known",
        "right answers:",
        "validation: pass@1",
        "left",
    ):
        assert words in panel
    assert all(len(line) <= 80 for line in panel.splitlines() if "\x1b" not in line)


def test_evaluations_of_a_run_that_is_gone_on_with_keep_their_iteration(run: Journal) -> None:
    before = Journal(tuple(r for r in run.records if isinstance(r, EvaluationRecord)))

    lines = drawn(before, terminal=False).splitlines()

    assert "base  goalposts: 0 of 16 solved, 0 so far" in lines
    assert "  20  goalposts: 3 of 16 solved, 3 so far" in lines


def test_plain_lines_fit_eighty_columns_and_have_no_codes(run: Journal) -> None:
    lines = drawn(run, terminal=False).splitlines()

    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)
