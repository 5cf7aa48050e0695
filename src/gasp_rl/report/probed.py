"""How far proposals came and what the student answered, in tables for the terminal."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from gasp_rl.config import GaspConfig, RunConfig
from gasp_rl.intervals import wilson_interval
from gasp_rl.report.numbers import CHECKS, funnel, tried
from gasp_rl.report.text import aligned, one_line
from gasp_rl.report.words import plural
from gasp_rl.rollout import Answer, Judgement, Phase, Proposal, Rejection
from gasp_rl.runs.results import ModelFacts, PromptFacts

CAUSES = 5
"""Causes named of each kind of rejection."""

LONGEST_CAUSE = 60

NUMBER = re.compile(r"\d+")

STOPPED_EARLY = (
    Rejection.MALFORMED, Rejection.UNSAFE, Rejection.INVALID, Rejection.NONDETERMINISTIC, Rejection.SANDBOX_FAULT,
)  # fmt: skip


def probed(
    model: ModelFacts,
    prompts: PromptFacts,
    config: RunConfig,
    gasp: GaspConfig,
    goalposts: int,
    phases: Sequence[Phase],
) -> str:
    """What was asked; for each rung what is left after each check and what stopped the others; then the answers."""
    sampling = config.sampling
    asked = (
        f"{Path(model.path).name}, prompts {prompts.name} ({prompts.digest[:8]}), {plural(goalposts, 'goalpost')}, "
        f"{gasp.pairs} pairs of which {gasp.public_pairs} are shown, temperature {sampling.temperature:g}, "
        f"{sampling.max_tokens} tokens at most"
    )
    lines = [asked]
    for rung in gasp.ladder:
        written = [p for phase in phases if phase.name == rung.name for p in phase.proposals]
        if not written:
            lines += ["", f"{rung.name}: none was asked for, since nothing below it runs"]
            continue
        band = f"solved by {rung.band.low} to {rung.band.high} of {rung.band.of}"
        lines += ["", *_funnels(rung.name, written, band), *_causes(written, sampling.max_tokens)]
        if rates := tried(written):
            lines.append("  " + _rates(rates))
    answers = [answer for phase in phases for answer in (*phase.tries, *phase.answers)]
    lines += ["", *_answers(answers), "", "[low, high]: 95 % intervals by Wilson, over replies."]
    return "\n".join(lines)


def examples(phases: Sequence[Phase], each: int) -> str:
    """Proposals as they were written, so many of each outcome, and what became of them."""
    shown = []
    for phase in phases:
        for outcome in (None, *Rejection):
            for p in [p for p in phase.proposals if p.rejection is outcome][:each]:
                head = f"{phase.name} of {p.goalpost}, axis {p.axis}: {_outcome(p)}"
                shown.append(f"\n=== {one_line(head, 200)}\n{p.text.strip()}\n")
    return "".join(shown)


def _outcome(p: Proposal) -> str:
    words = p.rejection.value.replace("_", " ") if p.rejection else f"accepted, {p.passes} of {p.tries} solved it"
    return f"{words} ({p.detail})" if p.detail else words


def _funnels(rung: str, written: Sequence[Proposal], band: str) -> list[str]:
    """A row per check, a column per axis and one for all."""
    axes = list(dict.fromkeys(p.axis for p in written if p.axis))
    columns = {str(axis): [p for p in written if p.axis is axis] for axis in axes} if len(axes) > 1 else {}
    columns["all"] = list(written)
    stages = {name: funnel(some) for name, some in columns.items()}
    rows = [[rung, *columns], ["written", *(str(len(some)) for some in columns.values())]]
    for place, (words, _) in enumerate(CHECKS):
        last = place == len(CHECKS) - 1
        cells = [_share(stages[name][place].survivors, len(some)) for name, some in columns.items()]
        rows.append([f"{words}, {band}" if last else words, *cells])
    return aligned(rows)


def _causes(written: Sequence[Proposal], max_tokens: int) -> Iterator[str]:
    """What stopped proposals before they could be compared and tried, the most frequent first."""
    for rejection in STOPPED_EARLY:
        stopped = [p for p in written if p.rejection is rejection]
        if stopped:
            counts = Counter(cause(p) for p in stopped).most_common()
            named = [f"{count} {words}" for words, count in counts[:CAUSES]]
            more = sum(count for _, count in counts[CAUSES:])
            cut = sum(p.tokens >= max_tokens for p in stopped)
            last = f" ({cut} of them cut off)" if cut else ""
            yield f"  {rejection.value}: {'; '.join([*named, *[f'{more} other'] * bool(more)])}{last}"


def cause(p: Proposal) -> str:
    """Why it was rejected, without the particulars and with N for every number, so that like can be counted with like."""
    parts = p.detail.split(":")
    known = parts[1] if p.rejection is Rejection.INVALID and len(parts) > 1 else parts[0]
    return NUMBER.sub("N", one_line(known.split(";")[0], LONGEST_CAUSE))


def _rates(rates: Counter[tuple[int, int]]) -> str:
    most = max(tries for _, tries in rates)
    passes = Counter({p: n for (p, tries), n in rates.items() if tries == most})
    return f"by how many of {most} tries solved: " + ", ".join(f"{p}: {passes[p]}" for p in sorted(passes))


def _answers(answers: Sequence[Answer]) -> list[str]:
    rows = [["answers", "written", "could be read", "right"]]
    for kind in dict.fromkeys(answer.kind for answer in answers):
        found = Counter(a.judgement for a in answers if a.kind is kind and a.judgement is not Judgement.SANDBOX_FAULT)
        n = found.total()
        right = _share(found[Judgement.CORRECT], n)
        rows.append([kind.value, str(n), _share(n - found[Judgement.MALFORMED], n), right])
    return aligned(rows) if len(rows) > 1 else ["no program ran: the student was asked nothing"]


def _share(count: int, of: int) -> str:
    if not of:
        return "0"
    interval = wilson_interval(count, of)
    return f"{count} = {count / of:.0%} [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"
