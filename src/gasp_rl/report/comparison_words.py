"""A comparison in words: tables for page, README and terminal, and what has to be known to read them. Honest when nothing
is significant, and when there was too little to find out.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gasp_rl.config import Matched
from gasp_rl.intervals import Estimate, Over
from gasp_rl.report.charts import short
from gasp_rl.report.comparison import Advantage, Arm, Contest, Findings, Goalposts, Tally
from gasp_rl.report.ladders import WHY
from gasp_rl.report.numbers import Stage
from gasp_rl.report.text import one_line
from gasp_rl.report.words import SURE, brief, duration, plural
from gasp_rl.runs.arms import ArmResult

LONGEST_NAME = 40

ONLY_PROBLEMS = "†"
"""Behind an interval that says nothing about other seeds."""


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    """What has to be known to read it."""


def sentences(found: Findings) -> list[str]:
    """The comparison in one to three of them."""
    said = [sentence for sentence in (_fallen(found), _tested(found)) if sentence]
    return said or [f"Of {named(found.reference)}, {plural(len(found.reference.results), 'seed')} finished."]


def comparison_markdown(found: Findings) -> str:
    """Tables for a README, with all that is needed to hold them against others."""
    parts = [_marked(" ".join(sentences(found)))]
    for table in tables(found):
        parts += [f"**{_marked(table.title)}**", _markdown_table(table), *map(_marked, table.notes)]
    parts += [f"- {_marked(remark)}" for remark in remarks(found)]
    parts.append("\n".join(f"- {name}: {_marked(value)}" for name, value in facts(found)))
    return "\n\n".join(part for part in parts if part) + "\n"


def comparison_text(found: Findings) -> str:
    """The most important of it, for the terminal."""
    lines = [" ".join(sentences(found))]
    for table in (results_table(found), goalposts_table(found), advantages_table(found)):
        if table:
            lines += ["", *_text_table(table), *table.notes]
    lines += ["", *remarks(found), *conditions(found)]
    return "\n".join(lines)


def tables(found: Findings) -> list[Table]:
    """All of them, in the order in which they are read."""
    made = (results_table, advantages_table, goalposts_table, columns_table, more_table, costs_table, funnels_table)
    return [table for table in (make(found) for make in made) if table]


# --- the tables


def results_table(found: Findings) -> Table | None:
    """In the paper's form (arXiv:2603.15957, Table 2)."""
    if not found.problems:
        return None
    head = ("arm", "real problems", "guidance", "seeds", *(str(metric) for metric in found.metrics))
    rows = [
        (
            named(arm),
            _tick(arm, holds=arm.real_problems),
            _tick(arm, holds=arm.guidance),
            str(len(arm.results)),
            *(_percent(arm.cell(metric).estimate) for metric in found.metrics),
        )
        for arm in found.arms
    ]
    estimates = [cell.estimate for arm in found.arms for cell in arm.cells]
    said = (
        f"In % of {plural(found.problems, 'test problem')}, the mean over seeds with its 95 % interval over problems and "
        f"seeds; sel.: of the checkpoint with the best validation pass@k, tested once. World {found.terms.world}, base model "
        f"{found.terms.model[:12]}."
    )
    return Table("Test", head, tuple(rows), (said, *_only_problems(estimates)))


def advantages_table(found: Findings) -> Table | None:
    if not found.advantages:
        return None
    rows = [
        (
            _difference(found, one),
            _points(one.estimate),
            "–" if one.p_value is None else _p(one.p_value),
        )
        for one in found.advantages
    ]
    tested = sum(one.p_value is not None for one in found.advantages)
    said = "In points, with 95 % interval, paired by problem."
    if tested > 1:
        said += f" p is adjusted for {tested} comparisons by Holm’s method, the intervals are not."
    notes = (said, *_only_problems(one.estimate for one in found.advantages))
    return Table(f"Difference in test {found.headline}", ("difference", "points", "p"), tuple(rows), notes)


def columns_table(found: Findings) -> Table | None:
    """The differences in all columns of the results: only the last of them is tested."""
    if not found.advantages:
        return None
    cells = [[one.estimates.get(metric) for metric in found.metrics] for one in found.advantages]
    rows = [(_difference(found, one), *map(_points, row)) for one, row in zip(found.advantages, cells, strict=True)]
    head = ("difference", *(str(metric) for metric in found.metrics))
    said = f"In points, with 95 % intervals, paired by problem. Only the difference in {found.headline} is tested."
    notes = (said, *_only_problems(estimate for row in cells for estimate in row))
    return Table("Differences in all columns", head, tuple(rows), notes)


def goalposts_table(found: Findings) -> Table | None:
    asked = [(arm, arm.goalposts) for arm in found.arms if arm.goalposts]
    if not asked:
        return None
    judged = {one.arm.name: one for one in found.contests}
    head = ("arm", "draws each", "twice or more", "share", "each seed", "any seed", "once or more", "any seed", "again")
    tests = ("p, twice", "p, once") if judged else ()
    rows = [
        (
            named(arm),
            _draws(goalposts),
            mean(goalposts.solid),
            f"{goalposts.solid.mean / goalposts.count:.1%}",
            ", ".join(map(str, goalposts.solid.by_seed)),
            str(goalposts.solid.union),
            mean(goalposts.plain),
            str(goalposts.plain.union),
            _share(arm.persistence.share),
            *(_judged(judged.get(arm.name)) if judged else ()),
        )
        for arm, goalposts in asked
    ]
    notes = [
        (
            f"Of {plural(asked[0][1].count, 'goalpost')}: how many fell in a run, at all its evaluations together, by two confirmed "
            "draws or more, and by one or more; the mean over seeds, then by any seed. Again: where a goalpost "
            "fell before the last evaluation, the share of later ones at which it fell again."
        )
    ]
    if judged:
        notes.append(
            f"p: exact permutation test over seeds against {named(found.reference)}, two-sided, adjusted by Holm’s "
            "method; of arms with as many draws only."
        )
        notes += _too_few(found)
    return Table("Goalposts", (*head, *tests), tuple(rows), tuple(notes))


def more_table(found: Findings) -> Table | None:
    if not found.problems:
        return None
    ks = [cell.metric.k for cell in found.reference.more]
    rows = [(named(arm), *(_percent(cell.estimate) for cell in arm.more)) for arm in found.arms]
    said = f"In %, of the checkpoints chosen by validation pass@{found.headline.chosen_by}."
    estimates = [cell.estimate for arm in found.arms for cell in arm.more]
    return Table("Test, other k", ("arm", *(f"pass@{k}" for k in ks)), tuple(rows), (said, *_only_problems(estimates)))


def costs_table(found: Findings) -> Table:
    head = ("arm", "seeds", "iterations", "training tokens", "training time", "all tokens", "all time",
            "tokens per goalpost", "time per goalpost")  # fmt: skip
    rows = [
        (
            named(arm),
            str(len(arm.results)),
            _range([result.iterations for result in arm.results]),
            short(arm.spent.training_tokens),
            duration(arm.spent.training_seconds),
            short(arm.spent.tokens),
            duration(arm.spent.seconds),
            *_each(arm),
        )
        for arm in found.arms
    ]
    said = (
        "Of all seeds together. All: evaluations and test included. Per goalpost: what training took over goalposts that fell "
        "by two draws or more, each seed’s counted."
    )
    return Table("Cost", head, tuple(rows), (said,))


def funnels_table(found: Findings) -> Table | None:
    rows = [
        (named(arm), one_line(funnel.rung, LONGEST_NAME), f"{funnel.proposals:,}", f"{funnel.accepted:,}",
         _share(funnel.accepted / funnel.proposals if funnel.proposals else None), lost(funnel.stages, funnel.proposals))
        for arm in found.arms
        for funnel in arm.funnels
    ]  # fmt: skip
    if not rows:
        return None
    head = ("arm", "rung or kind", "written", "accepted", "share", "lost")
    return Table("Proposals", head, tuple(rows), ("Of all seeds together; the lost as shares of the written.",))


def lost(stages: Iterable[Stage], written: int) -> str:
    """Why proposals were not accepted, the commonest first."""
    found = sorted(((n, reason) for stage in stages for reason, n in stage.lost), key=lambda one: -one[0])
    return ", ".join(f"{n / written:.1%} {WHY[reason]}" for n, reason in found)


# --- what has to be known


def remarks(found: Findings) -> list[str]:
    """What is out of the ordinary, and bears on how much the numbers mean."""
    said = []
    if found.left_out:
        said.append(
            f"{plural(found.left_out, 'test problem')} left out for all arms: a fault of the sandbox cost some arm draws of it."
        )
    if found.unmatched:
        said.append(
            f"Goalposts of {_names(found.unmatched)} are not compared: they had other numbers of draws, and more draws "
            "alone solve more."
        )
    for arm in found.arms:
        if arm.uneven:
            changes = "; ".join(one_line(str(change), 80) for change in arm.uneven[:4])
            said.append(f"The seeds of {named(arm)} did not run with the same settings: {changes}.")
        if arm.short:
            said.append(
                f"{_seeds(arm.short).capitalize()} of {named(arm)} ended before {budget(found)} were spent, with less compute "
                "than the others."
            )
        if untested := [r for r in arm.results if not r.tested]:
            said.append(f"{named(arm)} was not tested with {_seeds(untested)}.")
    for what, values in (("versions of gasp-rl", _versions(found)), ("machines", _machines(found))):
        if len(values) > 1:
            bears = (
                " Seconds of different machines say little."
                if found.terms.match is Matched.SECONDS and what == "machines"
                else ""
            )
            said.append(f"The runs were made with {len(values)} {what}.{bears}")
    return said


def conditions(found: Findings) -> list[str]:
    """What these numbers are conditional on."""
    terms = found.terms
    return [
        (
            f"All of it holds for this base model ({terms.model[:12]}), this world ({terms.world}) and {budget(found)} per run: "
            "other models, problems or budgets were not tried, and may do otherwise."
        )
    ]


def facts(found: Findings) -> list[tuple[str, str]]:
    """What was compared, on which terms, with what."""
    terms = found.terms
    chosen = _listed([f"pass@{k}" for k in sorted(terms.ks)])
    return [
        ("World", f"{terms.world} (SHA-256 of goalposts, train, validation and test problems)"),
        ("Base model", f"{terms.model[:12]} (SHA-256 of its weights)"),
        ("Prompts", terms.prompts[:12]),
        ("Each run", f"{budget(found)}; {plural(terms.evaluations, 'evaluation')} after equal shares of it"),
        (
            "Draws",
            (
                f"{terms.samples} of each validation problem and goalpost at each evaluation, {terms.test_samples} of each "
                f"test problem; temperature {terms.temperature:g}, at most {terms.max_tokens:,} tokens"
            ),
        ),
        ("Checkpoints", f"chosen by the best validation {chosen}, then tested once"),
        ("Arms", "; ".join(f"{one_line(arm.name, LONGEST_NAME)}, {_seeds(arm.results)}" for arm in found.arms)),
        ("gasp-rl", "; ".join(_versions(found))),
        ("Machine", "; ".join(_machines(found))),
    ]


def budget(found: Findings) -> str:
    match found.terms.match:
        case Matched.TOKENS:
            return f"{found.terms.budget:,.0f} tokens sampled to learn from"
        case Matched.SECONDS:
            return f"{duration(found.terms.budget)} of training"


# --- sentences


def _fallen(found: Findings) -> str:
    goalposts = found.reference.goalposts
    if goalposts is None:
        return ""
    seeds = len(found.reference.results)
    over = f"in the mean of {seeds} seeds" if seeds > 1 else "with its one seed"
    said = (
        f"{named(found.reference)} solves {mean(goalposts.solid)} of {plural(goalposts.count, 'goalpost')} "
        f"({goalposts.solid.mean / goalposts.count:.0%}) at least twice, {over}"
    )
    if not found.contests:
        return f"{said}."
    others = _listed(
        [f"{named(one.arm)} {mean(one.arm.goalposts.solid)}" for one in found.contests if one.arm.goalposts]
    )
    sure = [one for one in found.contests if one.solid.p_value < SURE]
    unsure = [one.arm for one in found.contests if one.solid.p_value >= SURE and not one.solid.hopeless]
    hopeless = [one.arm for one in found.contests if one.solid.hopeless]
    tests = [f"exact tests: p {_at_most(max(one.solid.p_value for one in sure))}"] if sure else []
    if unsure:
        tests.append(f"what sets it apart from {_names(unsure)} may be chance")
    if hopeless:
        tests.append(f"too few seeds to test that against {_names(hopeless)}")
    return f"{said}; at as many draws, {others} ({'; '.join(tests)})."


def _tested(found: Findings) -> str:
    if not found.advantages:
        return ""
    sure = [one for one in found.advantages if one.p_value is not None and one.p_value < SURE]
    unsure = [one.arm for one in found.advantages if one.p_value is not None and one.p_value >= SURE]
    untold = [one.arm for one in found.advantages if one.p_value is None]
    clauses = [f"is {_listed([_clause(one) for one in sure])}"] if sure else []
    if unsure:
        clauses.append(f"cannot be told from that of {_names(unsure)}")
    if untold:
        clauses.append(f"cannot be held against that of {_names(untold)} with so few seeds")
    return f"Its test pass@{found.headline.k} {'; it '.join(clauses)}."


def _clause(one: Advantage) -> str:
    side = "above" if one.estimate.value > 0 else "below"
    return f"{abs(100 * one.estimate.value):.1f} points {side} {named(one.arm)} [{_ends(one.estimate, points=True)}]"


def _too_few(found: Findings) -> list[str]:
    """Where no outcome at all could have been significant."""
    hopeless = [one for one in found.contests if one.solid.hopeless]
    if not hopeless:
        return []
    least = _listed([f"{_p(one.solid.least)} against {named(one.arm)}" for one in hopeless])
    return [f"Too few seeds for such a test: the clearest outcome possible would give p = {least}."]


def _only_problems(estimates: Iterable[Estimate | None]) -> list[str]:
    if all(one is None or one.over is not Over.PROBLEMS for one in estimates):
        return []
    return [
        f"{ONLY_PROBLEMS} Over problems only, which holds for just these seeds: they are too few, or do not differ at all."
    ]


# --- cells


def named(arm: Arm) -> str:
    return one_line(arm.name, LONGEST_NAME)


def _names(arms: Iterable[Arm]) -> str:
    return _listed([named(arm) for arm in arms])


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _tick(arm: Arm, *, holds: bool) -> str:
    return "✓" if holds else "✗" if arm.trained else "–"


def _difference(found: Findings, one: Advantage) -> str:
    return f"{named(found.reference)} − {named(one.arm)}"


def _percent(found: Estimate | None) -> str:
    return f"{100 * found.value:.1f} [{_ends(found)}]{_mark(found)}" if found else "–"


def _points(found: Estimate | None) -> str:
    if not found:
        return "–"
    return f"{signed(100 * found.value)} [{_ends(found, points=True)}]{_mark(found)}"


def _ends(found: Estimate, *, points: bool = False) -> str:
    low, high = 100 * found.interval.low, 100 * found.interval.high
    return f"{signed(low)}, {signed(high)}" if points else f"{low:.1f}, {high:.1f}"


def signed(points: float) -> str:
    rounded = round(points, 1)
    return f"{'−' if rounded < 0 else '+'}{abs(rounded):.1f}"


def _mark(found: Estimate) -> str:
    return f" {ONLY_PROBLEMS}" if found.over is Over.PROBLEMS else ""


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _at_most(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"≤ {p:.3f}"


def _judged(one: Contest | None) -> tuple[str, str]:
    return (_p(one.solid.p_value), _p(one.plain.p_value)) if one and one.solid.least < 1 else ("–", "–")


def mean(tally: Tally) -> str:
    return f"{tally.mean:.1f}" if len(tally.by_seed) > 1 else f"{tally.mean:.0f}"


def _draws(goalposts: Goalposts) -> str:
    return _range(goalposts.draws)


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _each(arm: Arm) -> tuple[str, str]:
    solved = sum(arm.goalposts.solid.by_seed) if arm.goalposts else 0
    if not solved:
        return "–", "–"
    return short(arm.spent.training_tokens / solved), brief(arm.spent.training_seconds / solved)


def _seeds(results: Iterable[ArmResult]) -> str:
    """In few words: seeds 0–4, 7."""
    seeds = [result.seed for result in results]
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    said = ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {said}"


def _versions(found: Findings) -> list[str]:
    made = (f"{r.package}, commit {r.commit}" if r.commit else r.package for r in found.results)
    return [one_line(version, 80) for version in dict.fromkeys(made)]


def _machines(found: Findings) -> list[str]:
    return [one_line(machine, 120) for machine in dict.fromkeys(r.machine for r in found.results)]


# --- as text


def _marked(text: str) -> str:
    """So that nothing of it is markup in Markdown."""
    return re.sub(r"([\\`*_<>|#&~]|\](?=\())", r"\\\1", text)


def _markdown_table(table: Table) -> str:
    rows = [table.head, tuple("---" for _ in table.head), *(tuple(map(_marked, row)) for row in table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _text_table(table: Table) -> list[str]:
    rows = [table.head, *table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        table.title,
        *("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows),
    ]
