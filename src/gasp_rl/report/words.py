"""A run in words: the sentence on top of the report and the summary at the end of a command. Honest when little fell."""

from collections.abc import Iterable, Sequence

from gasp_rl.report import numbers
from gasp_rl.report.numbers import Comparison
from gasp_rl.rollout import Proposal
from gasp_rl.runs.health import Reading, alarms
from gasp_rl.runs.journal import Finished, Journal, Stopped
from gasp_rl.runs.ledger import Ledger, ledger
from gasp_rl.runs.metrics import Measurement

NOTICED = 6
"""Lines at most about what the monitor noticed."""

SURE = 0.05
"""A difference with a larger p-value is called what it may be: chance."""


def headline(journal: Journal) -> str:
    """The run in one or two sentences."""
    if journal.started is None:
        return "This run has not begun: its journal is empty."
    if journal.started.config.steps == 0:
        return f"{journal.started.config.recipe} makes no iterations: what was measured is the model as it came."
    done = len(journal.iterations)
    evaluated = numbers.trained(numbers.of_split(journal, numbers.GOALPOSTS))
    if not evaluated:
        return f"{_progress(journal)}; its goalposts have not been evaluated since training began."

    solves = numbers.solves(evaluated)
    fallen = sum(s.solved for s in solves.values())
    after = f"After {plural(done, 'iteration')} of {journal.started.config.recipe}"
    if fallen == 0:
        found = f"{after} none of {plural(len(solves), 'goalpost')} has fallen."
    else:
        found = f"{after} the student has solved {fallen} of {plural(len(solves), 'goalpost')}."
    compared = numbers.comparison(journal)
    return f"{found} {_against_base(compared)}" if compared else found


def ending(journal: Journal) -> str:
    """How the run stands, for people who wonder whether they see all of it."""
    match journal.ending:
        case Finished(reason=reason):
            return f"finished: {reason}" if reason else "finished"
        case Stopped(reason="KeyboardInterrupt"):
            return "stopped by hand"
        case Stopped(reason=reason):
            return f"stopped: {reason}"
        case None if journal.started is None:
            return "not begun"
        case None:
            return "not finished: still running, or ended without a word"


def summary(journal: Journal, measurements: Sequence[Measurement] = ()) -> str:
    """What fell, compared with what, at what cost: a few lines for the terminal."""
    lines = [headline(journal)]
    if journal.started is None:
        return lines[0]

    solves = numbers.solves(numbers.trained(numbers.of_split(journal, numbers.GOALPOSTS)))
    fallen = sorted((s for s in solves.values() if s.solved), key=lambda s: -s.confirmed)
    if fallen:
        named = ", ".join(f"{s.problem} ({s.confirmed} of {s.samples} draws)" for s in fallen[:6])
        more = f" and {len(fallen) - 6} more" if len(fallen) > 6 else ""
        lines.append(f"Fallen: {named}{more}. Solved at least twice: {sum(s.solid for s in fallen)}.")

    for rung in numbers.rungs(journal):
        written = [p for p in numbers.proposals(journal) if p.rung == rung]
        lines.append(
            f"{rung.capitalize()}s accepted: {sum(p.accepted for p in written)} of {len(written)}"
            f"{_main_reason(written)}."
        )

    ks = journal.started.config.evaluate.ks
    for k in (ks[0], ks[-1]) if len(ks) > 1 else ks:
        points = numbers.validation_over_time(journal, k)
        if len(points) > 1:
            best = max(points, key=lambda point: point[1])
            lines.append(
                f"Validation pass@{k}: {points[0][1]:.1%} before, {points[-1][1]:.1%} after, "
                f"best {best[1]:.1%} at iteration {best[0]:g}."
            )

    remarks = noticed(journal, alarms(journal))
    lines += remarks[:NOTICED]
    if len(remarks) > NOTICED:
        lines.append(f"{plural(len(remarks) - NOTICED, 'more remark')} of this kind in the report.")
    lines += costs(ledger(journal, measurements))
    if journal.ending is None or isinstance(journal.ending, Stopped):
        lines.append(f"The run is {ending(journal)}." if journal.ending is None else f"The run {ending(journal)}.")
    return "\n".join([*lines, *journal.notes])


def noticed(journal: Journal, alarmed: Iterable[Reading]) -> list[str]:
    """What alarmed the health monitor and what changed the run's course, by iteration."""
    reasons = {(one.step, one.reason) for one in journal.decided}
    found = [(one.step, str(one)) for one in alarmed if (one.step, str(one)) not in reasons]
    found += [(one.step, str(one)) for one in journal.decided]
    return [f"Iteration {step}: {what}." for step, what in sorted(found, key=lambda one: one[0])]


def costs(found: Ledger) -> list[str]:
    """What was spent, and what each thing that it bought came to."""
    total = found.total
    spent = f"Cost: {total.tokens:,.0f} tokens sampled"
    if not total.seconds:
        return [f"{spent}."]
    model = f"{duration(total.sampling_seconds)} sampling, {duration(total.update_seconds)} updating"
    sandbox = f"{duration(total.sandbox_cpu_seconds)} of CPU in the sandbox"
    lines = [f"{spent} in {duration(total.seconds)} ({model}), with {sandbox}."]
    if found.bought:
        each = [f"{one.each.tokens:,.0f} tokens and {brief(one.each.seconds)} per {one.what}" for one in found.bought]
        lines.append(f"That is {'; '.join(each)}.")
    if found.done_again:
        lines.append(f"Of these tokens {found.done_again:,} were of iterations that were interrupted and done again.")
    return lines


def probability(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def brief(seconds: float) -> str:
    """Seconds of one small thing: two digits where a minute is far."""
    return duration(seconds) if seconds >= 60 else f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"


def _progress(journal: Journal) -> str:
    assert journal.started is not None
    config = journal.started.config
    return f"{len(journal.iterations)} of {plural(config.steps, 'iteration')} of {config.recipe} are done"


def _against_base(found: Comparison) -> str:
    if not found.matched:
        return (
            f"The base model solved {len(found.base)}, but with {found.base_draws:,} draws each against "
            f"{found.run_draws:,}: the two cannot be compared."
        )

    same = f"The base model, given the same {found.base_draws:,} draws each, solved {len(found.base)}"
    if len(found.run) <= len(found.base):
        return f"{same}: training shows no gain here."
    test = f"paired exact test: {probability(found.p_value)}"
    return f"{same} ({test})." if found.p_value < SURE else f"{same} ({test}; the difference may be chance)."


def _main_reason(written: Sequence[Proposal]) -> str:
    """What stopped most of the others."""
    stages = numbers.funnel(written)
    lost = [(count, reason) for stage in stages for reason, count in stage.lost]
    if not lost:
        return ""
    count, reason = max(lost)
    return f"; most others {reason.value.replace('_', ' ')} ({count})"
