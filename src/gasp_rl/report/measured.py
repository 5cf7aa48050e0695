"""The results of an evaluation in words: a table for the terminal, and what has to be known to read it."""

from collections.abc import Sequence
from pathlib import Path

from gasp_rl.report.text import one_line
from gasp_rl.report.words import plural
from gasp_rl.rollout import Evaluation
from gasp_rl.runs.results import Rate, Results, Stratum

LONGEST_NAME = 24


def measured(results: Results) -> str:
    """What was asked, pass@k with intervals, the same in parts, and what the numbers do not say."""
    whole, parts = results.strata[0], results.strata[1:]
    lines = [_asked(results), "", *_rates(whole), ""]
    for by in dict.fromkeys(stratum.by for stratum in parts):
        lines += [*_table(by, [whole, *(stratum for stratum in parts if stratum.by == by)]), ""]
    lines.append(f"[low, high]: {results.level:.0%} intervals, by bootstrap over problems.")
    if results.drawn:
        lines += _notes(results.drawn, "", results)
    if results.greedy:
        lines += _notes(results.greedy, "Greedy: " if results.drawn else "", results)
    return "\n".join(lines)


def _asked(results: Results) -> str:
    sampled = []
    if results.drawn:
        sampled.append(f"{plural(results.samples, 'draw')} each at temperature {results.sampling.temperature:g}")
    if results.greedy:
        sampled.append("the greedy answer")
    name = Path(results.model.path).name if "://" not in results.model.path else results.model.weights
    problems = results.problems
    which = f"{problems.name} ({problems.split})" if problems.name == "micro" else Path(problems.name).name
    window = " ".join(
        [f"from {problems.since}"] * bool(problems.since) + [f"before {problems.until}"] * bool(problems.until)
    )
    return one_line(
        f"{name} on {which}{', ' if window else ''}{window}: {plural(len(problems.problems), 'problem')}, "
        f"{' and '.join(sampled)}; prompts {results.prompts.name} ({results.prompts.digest[:8]}), "
        f"{results.grading.semantics.value} grading",
        400,
    )


def _rates(whole: Stratum) -> list[str]:
    lines = [f"pass@{rate.k:<10}{_rate(rate)}{_of(rate, whole)}" for rate in whole.rates]
    if whole.greedy:
        lines.append(f"{'greedy pass@1':<15}{_rate(whole.greedy)}{_of(whole.greedy, whole)}")
    return lines or ["no problem was answered: there is nothing to measure"]


def _of(rate: Rate, stratum: Stratum) -> str:
    return f"   over {rate.problems} of {stratum.problems} problems" if rate.problems < stratum.problems else ""


def _rate(rate: Rate) -> str:
    return f"{100 * rate.mean:5.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def _bare_rate(rate: Rate | None) -> str:
    return _rate(rate).replace(" %", "") if rate else ""


def _table(by: str, rows: Sequence[Stratum]) -> list[str]:
    """pass@1, pass@k of the largest k, and the greedy answer, as far as they were measured."""
    whole = rows[0]
    ks = sorted({rate.k for rate in (*whole.rates[:1], *whole.rates[-1:])})
    heads = [f"by {by}", "problems", *(f"pass@{k}, %" for k in ks), *(["greedy, %"] if whole.greedy else [])]
    cells = [heads]
    for row in rows:
        rates = {rate.k: rate for rate in row.rates}
        found = [_bare_rate(rates.get(k)) for k in ks] + ([_bare_rate(row.greedy)] if whole.greedy else [])
        counted = min([rate.problems for rate in row.rates] + ([row.greedy.problems] if row.greedy else []), default=0)
        problems = str(row.problems) if counted == row.problems else f"{counted} of {row.problems}"
        cells.append([one_line(row.name, LONGEST_NAME), problems, *found])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(_cell(place, text, widths[place]) for place, text in enumerate(row)).rstrip() for row in cells]


def _cell(place: int, text: str, width: int) -> str:
    return text.rjust(width) if place == 1 else text.ljust(width)


def _notes(found: Evaluation, kind: str, results: Results) -> list[str]:
    """What was solved, what kind of answers came, what is missing, and what it cost."""
    scores = found.scores
    solved = sum(score.solved for score in scores)
    once = sum(score.solved and not score.solid for score in scores)
    flaky = [score.problem for score in scores if score.passes and not score.solved]
    wanted = results.samples if found is results.drawn else 1
    short = [score.problem for score in scores if score.samples < wanted]
    answers = sum(score.samples for score in scores)
    truncated, empty, unreadable = (
        sum(getattr(score, name) for score in scores) for name in ("truncated", "empty", "unreadable")
    )
    seldom = f", of these by a single draw: {once}" if wanted > 1 else ""
    lines = [
        f"{kind}Solved, confirmed in a fresh sandbox: {solved} of {len(scores)}{seldom}.",
    ]
    lines.append(
        f"{kind}Answers: {answers:,}; cut off at {results.sampling.max_tokens:,} tokens: {_share(truncated, answers)}; "
        f"empty: {_share(empty, answers)}; without a program: {_share(unreadable, answers)}."
    )
    if flaky:
        lines.append(f"{kind}Passed once but not again, and not counted as solved: {_some(flaky)}.")
    if short:
        lines.append(f"{kind}Answered less often than wanted (the prompt leaves no room, or a fault of the sandbox), and left "
                     f"out where draws are missing: {_some(short)}.")  # fmt: skip
    lines.append(f"{kind}Cost: {found.sampled_tokens:,} tokens sampled.")
    return lines


def _share(count: int, total: int) -> str:
    return f"{count:,} ({count / total:.1%})" if count else "0"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(one_line(name, 40) for name in names[:5])}{more}"
