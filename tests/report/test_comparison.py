import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import msgspec
import pytest

from gasp_rl.cli import main
from gasp_rl.config import GaspConfig, Matched, RlvrConfig, RunConfig
from gasp_rl.errors import InputError
from gasp_rl.report.comparison import Metric, findings, spread
from gasp_rl.report.comparison_page import comparison_page, write_comparison
from gasp_rl.report.comparison_words import (
    comparison_markdown,
    comparison_text,
    goalposts_table,
    remarks,
    results_table,
    sentences,
)
from gasp_rl.rollout import Rejection
from gasp_rl.runs.arms import SCHEMA, ArmResult, Chosen, Lost, Point, Score, Terms, Written, write_result
from gasp_rl.stats import holm, least_p_value, permutation_test

TERMS = Terms(
    Matched.TOKENS, 300, 3, 10, 10, (1, 5), 1.0, 200, 1e-4, "a" * 64, "b" * 64, "c" * 64, "d" * 64, "e" * 64, "f" * 64
)
GUIDED = RunConfig("gasp", gasp=GaspConfig())
REAL = RunConfig("rlvr", rlvr=RlvrConfig())


def passed(passes: Sequence[int], samples: int = 10) -> tuple[Score, ...]:
    return tuple(Score(f"t{place}", samples, n, n) for place, n in enumerate(passes))


def point(place: int, confirmed: Sequence[int], samples: int = 10) -> Point:
    goalposts = tuple(Score(f"g{g}", samples, n, n) for g, n in enumerate(confirmed))
    return Point(place, 100 * place, 10.0 * place, (Score("v", 10, place, place),), goalposts)


def result(
    arm: str = "gasp", seed: int = 0, confirmed: Sequence[Sequence[int]] = ((0, 0),), test: Sequence[int] = (5, 0)
) -> ArmResult:
    """One that had so many confirmed draws of each goalpost at each evaluation, and passes of each test problem."""
    points = tuple(point(place, one) for place, one in enumerate(confirmed, 1))
    config = replace(GUIDED if arm == "gasp" else REAL, seed=seed)
    return ArmResult(
        SCHEMA, arm, seed, TERMS, config, "0.1.0", "", "a machine", 3, points, (Chosen(3, (1, 5), passed(test)),), (),
        300, 30.0, 900, 90.0,
    )  # fmt: skip


def test_a_goalpost_is_solid_once_two_draws_of_one_run_solved_it_at_whatever_evaluations() -> None:
    arm = findings(
        [result(seed=0, confirmed=[[1, 1, 0], [1, 0, 0]]), result(seed=1, confirmed=[[0, 1, 0], [0, 0, 2]])]
    ).reference

    assert arm.goalposts
    assert arm.goalposts.count == 3
    assert (arm.goalposts.plain.by_seed, arm.goalposts.plain.union) == ((2, 2), 3)
    assert (arm.goalposts.solid.by_seed, arm.goalposts.solid.union) == ((1, 1), 2)
    assert arm.goalposts.draws == (20, 20)


def test_persistence_is_the_share_of_later_evaluations_that_solve_a_goalpost_again() -> None:
    arm = findings([result(confirmed=[[1, 0], [0, 0], [1, 1]])]).reference

    assert (arm.persistence.again, arm.persistence.later) == (1, 2)


def test_a_goalpost_that_fell_at_the_last_evaluation_says_nothing_about_persistence() -> None:
    assert findings([result(confirmed=[[0], [3]])]).reference.persistence.share is None


def test_goalposts_over_compute_begin_at_nothing_and_never_fall() -> None:
    arm = findings([result(confirmed=[[1, 0], [1, 0], [0, 2]])]).reference

    assert arm.fallen.seeds == (((0.0, 0.0), (100.0, 0.0), (200.0, 1.0), (300.0, 2.0)),)
    assert arm.fallen_once.mean == ((0.0, 0.0), (100.0, 1.0), (200.0, 1.0), (300.0, 2.0))


def test_the_mean_curve_goes_as_far_as_all_seeds_came() -> None:
    arm = findings([result(seed=0, confirmed=[[0], [2]]), result(seed=1, confirmed=[[2]])]).reference

    assert arm.fallen.mean == ((0.0, 0.0), (100.0, 0.5))


def test_matched_by_seconds_curves_are_over_seconds() -> None:
    terms = replace(TERMS, match=Matched.SECONDS)
    arm = findings([msgspec.structs.replace(result(confirmed=[[2]]), terms=terms)]).reference

    assert arm.fallen.mean == ((0.0, 0.0), (10.0, 1.0))


def test_the_means_of_the_table_are_those_of_pass_at_k_on_all_test_problems() -> None:
    found = findings([result(seed=0, test=[5, 0]), result(seed=1, test=[10, 1])])

    cell = found.reference.cell(Metric(1, 5))
    assert cell.by_seed == pytest.approx((0.25, 0.55))
    assert cell.estimate
    assert cell.estimate.value == pytest.approx(0.4)
    assert found.headline == Metric(5, 5)
    assert found.reference.cell(found.headline).by_seed[0] == pytest.approx((1 - 1 / 252 + 0) / 2)


def test_an_advantage_is_the_reference_less_the_other_in_every_column() -> None:
    found = findings([result("gasp", test=[6, 4]), result("rlvr", test=[2, 4])])

    (advantage,) = found.advantages
    assert advantage.estimates[Metric(1, 1)].value == pytest.approx((0.4 + 0.0) / 2)
    assert advantage.estimate == advantage.estimates[Metric(5, 5)]
    assert advantage.p_value is None
    assert [k for k, _ in advantage.over_k] == [1, 2, 3, 5, 7, 10]


def test_each_selection_reads_the_checkpoint_that_it_chose() -> None:
    two = (Chosen(1, (1,), passed([10, 10])), Chosen(3, (5,), passed([0, 0])))
    found = findings([msgspec.structs.replace(result(), tested=two)])

    assert found.reference.cell(Metric(1, 1)).by_seed == (1.0,)
    assert found.reference.cell(Metric(1, 5)).by_seed == (0.0,)


def test_a_test_problem_that_lost_a_draw_in_one_arm_is_left_out_of_all_and_counted() -> None:
    short = (Chosen(3, (1, 5), (Score("t0", 9, 9, 9), Score("t1", 10, 5, 5))),)
    found = findings([result("gasp", test=[0, 5]), msgspec.structs.replace(result("rlvr"), tested=short)])

    assert (found.problems, found.left_out) == (1, 1)
    assert found.reference.cell(Metric(1, 1)).by_seed == (0.5,)
    assert any("1 test problem left out" in remark for remark in remarks(found))


def test_the_reference_is_gasp_or_who_is_asked_for() -> None:
    results = [result("azr"), result("gasp"), result("rlvr")]

    assert [arm.name for arm in findings(results).arms] == ["gasp", "azr", "rlvr"]
    assert findings(results, "rlvr").reference.name == "rlvr"
    with pytest.raises(InputError, match="no seed of demo has finished; there is azr, gasp, rlvr"):
        findings(results, "demo")


def test_goalposts_are_tested_by_permutation_of_seeds_adjusted_for_all_matched_arms() -> None:
    counts = {"gasp": [3, 3, 2, 3], "azr": [0, 1, 0, 0], "rlvr": [1, 0, 1, 2]}
    results = [
        result(arm, seed, [[2] * n + [0] * (4 - n)]) for arm, each in counts.items() for seed, n in enumerate(each)
    ]

    found = findings(results)

    raw = [permutation_test(counts["gasp"], counts[arm]) for arm in ("azr", "rlvr")]
    assert [one.solid.p_value for one in found.contests] == holm(raw)
    assert [one.solid.least for one in found.contests] == holm([least_p_value(4, 4)] * 2)


def test_arms_with_other_numbers_of_draws_are_not_compared_and_the_report_says_so() -> None:
    found = findings([result("gasp", confirmed=[[2], [2]]), result("rlvr", confirmed=[[0]])])

    assert found.contests == ()
    assert [arm.name for arm in found.unmatched] == ["rlvr"]
    assert any(remark.startswith("Goalposts of rlvr are not compared") for remark in remarks(found))
    assert "rlvr" not in sentences(found)[0]


def test_with_too_few_seeds_the_least_possible_p_is_said() -> None:
    found = findings([result(arm, seed, [[2 * (arm == "gasp")]]) for arm in ("gasp", "rlvr") for seed in range(2)])
    table = goalposts_table(found)

    assert table
    assert (
        "Too few seeds for such a test: the clearest outcome possible would give p = 0.333 against rlvr." in table.notes
    )
    assert table.rows[1][-2:] == ("0.333", "0.333")
    assert sentences(found)[0].endswith("at as many draws, rlvr 0.0 (too few seeds to test that against rlvr).")


def test_no_p_is_shown_where_it_could_only_have_been_1() -> None:
    table = goalposts_table(findings([result("gasp", confirmed=[[2, 2]]), result("rlvr", confirmed=[[0, 0]])]))

    assert table
    assert table.rows[1][-2:] == ("–", "–")


def test_a_difference_that_may_be_chance_is_called_that() -> None:
    counts = {"gasp": [2, 1, 3, 2], "rlvr": [1, 2, 2, 3]}
    found = findings(
        [result(arm, seed, [[2] * n + [0] * (4 - n)]) for arm, each in counts.items() for seed, n in enumerate(each)]
    )

    assert sentences(found)[0].endswith("rlvr 2.0 (what sets it apart from rlvr may be chance).")


def test_proposals_of_all_seeds_go_through_one_funnel_each_rung() -> None:
    written = (Written("lemma", 10, 4, (Lost(Rejection.MALFORMED, 1), Lost(Rejection.TOO_EASY, 5))),)
    arm = findings([msgspec.structs.replace(result(seed=seed), written=written) for seed in range(2)]).reference

    (funnel,) = arm.funnels
    assert (funnel.proposals, funnel.accepted) == (20, 8)
    assert [stage.survivors for stage in funnel.stages] == [18, 18, 18, 18, 18, 8]


def test_what_was_spent_is_summed_over_seeds() -> None:
    spent = findings([result(seed=0), result(seed=1)]).reference.spent

    assert (spent.training_tokens, spent.training_seconds, spent.tokens, spent.seconds) == (600, 60.0, 1800, 180.0)


def test_seeds_of_an_arm_that_ran_with_other_settings_are_noticed() -> None:
    odd = result(seed=1)
    odd = msgspec.structs.replace(odd, config=replace(odd.config, steps=7))

    assert remarks(findings([result(seed=0), result(seed=1)])) == []
    assert remarks(findings([result(seed=0), odd])) == [
        "The seeds of gasp did not run with the same settings: steps: 50 -> 7."
    ]


def test_runs_that_were_stopped_before_their_budget_are_noticed() -> None:
    early = msgspec.structs.replace(result(seed=1), training_tokens=500, terms=replace(TERMS, budget=1000))
    whole = msgspec.structs.replace(result(seed=0), training_tokens=1010, terms=replace(TERMS, budget=1000))

    assert remarks(findings([whole, early])) == [
        "Seed 1 of gasp ended before 1,000 tokens sampled to learn from were spent, with less compute than the others."
    ]


def test_no_arm_at_all_is_an_error_in_one_line() -> None:
    with pytest.raises(InputError, match="no arm has finished yet"):
        findings([])


def test_ks_are_spread_over_all_draws() -> None:
    assert spread(100) == [1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100]
    assert spread(20) == [1, 2, 3, 5, 7, 10, 20]
    assert spread(1) == [1]


def test_the_table_has_the_papers_columns_and_names_world_and_model(arms: tuple[ArmResult, ...]) -> None:
    table = results_table(findings(arms))

    assert table
    assert table.head[4:] == (
        "pass@1 (sel. pass@1)", "pass@20 (sel. pass@1)", "pass@1 (sel. pass@20)", "pass@20 (sel. pass@20)",
    )  # fmt: skip
    assert [row[:4] for row in table.rows] == [
        ("gasp", "✗", "✓", "5"), ("azr", "✗", "✗", "5"), ("random-reward", "✓", "✗", "3"), ("rlvr", "✓", "✗", "3"),
    ]  # fmt: skip
    assert f"World {arms[0].terms.world}, base model {arms[0].terms.model[:12]}." in table.notes[0]


def test_an_interval_that_holds_for_just_these_seeds_is_marked(
    make_comparison: Callable[..., tuple[ArmResult, ...]],
) -> None:
    found = findings(make_comparison({"gasp": 2, "azr": 4}))
    table = results_table(found)

    assert table
    assert [row[4].endswith(" †") for row in table.rows] == [True, False]
    assert any(note.startswith("† Over problems only") for note in table.notes)
    assert sentences(found)[1].endswith("cannot be held against that of azr with so few seeds.")


def test_the_untrained_model_is_the_last_row_and_neither_guided_nor_trained_on_anything(
    make_comparison: Callable[..., tuple[ArmResult, ...]],
) -> None:
    found = findings(make_comparison({"gasp": 3, "untrained": 3, "rlvr": 3, "no-io-axis": 3}))
    table = results_table(found)

    assert table
    assert [row[:3] for row in table.rows] == [
        ("gasp", "✗", "✓"), ("rlvr", "✓", "✗"), ("no-io-axis", "✗", "✓"), ("untrained", "–", "–"),
    ]  # fmt: skip
    assert found.unmatched == ()


def test_the_first_sentences_hold_gasp_against_all_others(arms: tuple[ArmResult, ...]) -> None:
    found = findings(arms)
    assert found.reference.goalposts

    first, second = sentences(found)

    mean = fmean(found.reference.goalposts.solid.by_seed)
    assert first.startswith(
        f"gasp solves {mean:.1f} of 24 goalposts ({mean / 24:.0%}) at least twice, in the mean of 5 seeds"
    )
    assert second.startswith("Its test pass@20 ")


def test_markdown_and_terminal_tell_of_an_unfinished_comparison_too(
    make_comparison: Callable[..., tuple[ArmResult, ...]],
) -> None:
    for seeds in ({"gasp": 1}, {"gasp": 2, "azr": 1}, {"untrained": 1}, {"rlvr": 1, "azr": 3}):
        found = findings(make_comparison(seeds))

        assert "| arm |" in comparison_markdown(found)
        assert "All of it holds for this base model" in comparison_text(found)


def test_an_arm_without_test_or_evaluation_is_shown_with_what_there_is() -> None:
    bare = msgspec.structs.replace(result(), points=(), tested=())
    found = findings([bare, result("rlvr")])

    assert "gasp was not tested with seed 0." in remarks(found)
    assert "| rlvr |" in comparison_markdown(found)
    assert "Of gasp, 1 seed finished." in comparison_text(findings([bare]))


def test_a_test_of_which_every_problem_lost_draws_is_left_out_and_said_to_be() -> None:
    short = (Chosen(3, (1, 5), (Score("t0", 9, 9, 9), Score("t1", 9, 5, 5))),)
    found = findings([result("gasp"), msgspec.structs.replace(result("rlvr"), tested=short)])

    assert results_table(found) is None
    assert "2 test problems left out" in comparison_text(found)
    assert "Goalposts" in comparison_page(found, "short")


def test_names_are_no_markup_in_markdown() -> None:
    hostile = "<img src=x onerror=alert(1)>|[a](javascript:b)`"

    text = comparison_markdown(findings([result(hostile), result("gasp")]))

    assert not re.search(r"(?<!\\)<|(?<!\\)\]\(|(?<!\\)`", text)
    for table in text.split("\n\n"):
        columns = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines() if row.startswith("|")}
        assert len(columns) <= 1


def test_gasp_report_of_a_folder_of_finished_arms_shows_their_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arm in ("gasp", "rlvr"):
        write_result(tmp_path, result(arm))

    assert main(["report", str(tmp_path)]) == 0

    said = capsys.readouterr().out
    assert said.startswith(
        "gasp solves 0 of 2 goalposts (0%) at least twice, with its one seed; at as many draws, rlvr 0 "
    )
    assert f"Report: {tmp_path / 'comparison.html'}" in said
    assert (tmp_path / "comparison.html").read_text().startswith("<!doctype html>")


def test_tables_are_written_beside_the_finished_arms(tmp_path: Path, arms: tuple[ArmResult, ...]) -> None:
    for one in arms:
        write_result(tmp_path, one)

    page = write_comparison(tmp_path)

    assert page == tmp_path / "comparison.html"
    assert (tmp_path / "comparison.md").read_text().startswith("gasp solves ")
