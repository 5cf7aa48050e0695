"""What a run will need, in words and tables for the terminal: memory with its arithmetic, time as far as it was measured."""

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from gasp_rl.config import RunConfig
from gasp_rl.policy.needs import Holder, Machine, MemoryPlan, Part, Term
from gasp_rl.report.text import aligned
from gasp_rl.report.words import brief, duration, plural
from gasp_rl.scaling import (
    Amounts,
    Arrangement,
    Measured,
    Times,
    Traffic,
    Work,
    altogether,
    best_division,
    predicted,
    sent_bytes,
    whole_run,
)

SETTINGS_NAMED = 4
LEAST_SECONDS = 0.05
"""Of a phase that is worth a line."""
LABEL = max(len(part) for part in Part)


def _wrapped(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Without a break inside a flag."""
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def memory_text(config: RunConfig, plan: MemoryPlan, width: int) -> str:
    """Term by term, and whether it fits."""
    learned = "all of them learn" if plan.learned == plan.parameters else f"{plan.learned:,} learn beside them"
    device = "the CPU" if plan.device == "cpu" else plan.device
    head = (
        f"{config.recipe} with {Path(config.model.path).name}: {plan.parameters:,} parameters, {learned}; on {device}, "
    )
    lines = _wrapped(f"{head}sampled in {plan.dtype}. Memory:", width)
    for holder in plan.holders:
        lines += ["", holder.title, *_terms(holder.needs.terms, width), *_verdict(holder, width)]
    if plan.device != "cpu" or config.engine == "ray":
        lines += ["", "each machine's own memory, beside that", *_machine(plan.machine, config, width)]
    kept = config.checkpoint.keep + len(config.checkpoint.best)
    disk = f"{_disk(plan.checkpoint)} each checkpoint (12 bytes for each parameter that learns)"
    if config.checkpoint.every:
        disk += f", {kept} kept and one being written: {_disk((kept + 1) * plan.checkpoint)}"
    else:
        disk = "no checkpoints"
    lines += ["", *_wrapped(f"Disk: {disk}; the trained model {_disk(plan.export)}.", width)]
    return "\n".join(lines)


def _disk(found: int) -> str:
    return f"{found / 1e9:,.1f} GB" if found >= 1e9 else f"{found / 1e6:,.0f} MB"


def _terms(terms: Sequence[Term], width: int) -> Iterator[str]:
    margin = LABEL + 14
    for place, term in enumerate(terms):
        name = term.part if place == 0 or terms[place - 1].part is not term.part else ""
        how = _wrapped(term.arithmetic, max(20, width - margin))
        yield f"  {name:<{LABEL}} {size(term.size):>9}  {how[0]}"
        yield from (" " * margin + line for line in how[1:])


def size(found: int) -> str:
    return f"{found / 2**30:,.1f} GiB" if found >= 2**30 else f"{found / 2**20:,.1f} MiB"


def _verdict(holder: Holder, width: int) -> Iterator[str]:
    by_turns = "together" if holder.needs.cache_stays else "by turns: the cache, or what an update needs"
    both = holder.needs.cache and holder.needs.update
    said = f"{size(holder.needs.total)} at most" + (f" ({by_turns})" if both else "")
    if not holder.available:
        said += "; what there is was not told (--device-memory-gb)"
    elif holder.fits:
        said += f", of {size(holder.available)}: fits"
    elif holder.helps:
        said += f", of {size(holder.available)}: does not fit; with {holder.helps.flags} it takes {size(holder.helps.needs.total)}"
    else:
        said += f", of {size(holder.available)}: does not fit, and no setting helps: a smaller model, or larger devices"
    yield from _wrapped(said, width, "  = ", "    ")


def _machine(machine: Machine, config: RunConfig, width: int) -> Iterator[str]:
    yield from _terms((machine.opening, *machine.standing), width)
    said = f"{size(machine.total)} at most, since models are opened before anything is saved"
    if machine.available and machine.fits:
        said += f", of {size(machine.available)}: fits"
    elif machine.available:
        said += (
            f", of {size(machine.available)}: does not fit; fewer processes a machine, or more machines (--machines)"
        )
    else:
        said += "; what there is was not told (--host-memory-gb)"
    yield from _wrapped(said, width, "  = ", "    ")
    store = sum(term.size for term in machine.standing if term.part is Part.STORE)
    have = config.ray.object_store_mb << 20
    if store > have and not config.ray.address:
        least = -(-store // 2**20)
        said = f"The object store is set to {size(have)} and would spill to disk: --ray.object-store-mb {least}"
        yield from _wrapped(said, width, "    ", "    ")


def unknown_times(out: str, width: int) -> str:
    """Where nothing was measured."""
    return "\n".join(
        _wrapped(
            "Time and cost: not known. Tokens sampled and learned per second, programs run per second and weights published "
            "per second are those of your device, so they are measured, not guessed: let this recipe do two iterations on "
            f"one device, or as few as it fits (--steps 2 --out {out}), then plan again with --rates {out}.",
            width,
        )
    )


def times_text(found: Measured, traffic: Traffic, to: Arrangement, devices: Sequence[int], width: int) -> str:
    """What was measured, phase by phase what becomes of it, and what more or fewer devices would make of it."""
    work = found.work
    return "\n".join([
        *_rates(found, traffic, width), "",
        f"Seconds of an iteration with {_who(to)}:", *_phases(work, traffic, to), "",
        "With more devices or fewer" + (":" if to.colocated else ", divided as is best (to learn + to sample):"),
        *_scaled(work, traffic, to, devices), "",
        *_wrapped(_caveat(work, traffic, to), width),
    ])  # fmt: skip


def _rates(found: Measured, traffic: Traffic, width: int) -> list[str]:
    stages = found.work.iteration
    sampled, sampling = sum(s.tokens for s in stages), sum(s.sampling for s in stages)
    learned, update = sum(s.learned for s in stages), sum(s.update for s in stages)
    programs, cpu = sum(s.programs_run for s in stages), sum(s.programs for s in stages)
    publications, publish = sum(s.publish > 0 for s in stages), sum(s.publish for s in stages)
    known = [
        f"{rate:,.{0 if rate >= 10 else 1}f} {what}"
        for rate, what in (
            (sampled / sampling if sampling else 0, "tokens sampled"),
            (learned / update if update else 0, "tokens learned from, prompts included"),
            (programs / cpu * found.work.workers if cpu else 0, "programs at the most"),
            (4e-6 * traffic.learned * publications / publish if publish else 0, "MB of weights published"),
        ) if rate
    ]  # fmt: skip
    who = _who(found.work.measured)
    source = f"{found.run}, {plural(found.iterations, 'iteration')}, engine {found.engine}, {who}"
    lines = _wrapped(f"Time, from what was measured ({source}). Per second: {'; '.join(known)}.", width)
    if found.others:
        named = "; ".join(found.others[:SETTINGS_NAMED])
        more = f"; and {len(found.others) - SETTINGS_NAMED} more" if len(found.others) > SETTINGS_NAMED else ""
        lines += _wrapped(f"That run had other settings, and times are for those: {named}{more}.", width)
    return lines


def _phases(work: Work, traffic: Traffic, to: Arrangement) -> list[str]:
    named = [(stage.name, predicted(work, stage, traffic, to)) for stage in work.iteration]
    whole = altogether(work, work.iteration, traffic, to)
    return aligned([
        ["phase", "sampling", "programs", "update", "transfer", "all"],
        *[[name, *_cells(times)] for name, times in named if times.total >= LEAST_SECONDS],
        ["an iteration", *_cells(whole)],
    ])  # fmt: skip


def _scaled(work: Work, traffic: Traffic, like: Arrangement, devices: Sequence[int]) -> list[str]:
    first = best_division(devices[0], work, traffic, like)
    one = altogether(work, work.iteration, traffic, first).total
    rows = [["devices", "sampling", "programs", "update", "transfer", "all", "speed", "most"]]
    for count in devices:
        way = best_division(count, work, traffic, like)
        times = altogether(work, work.iteration, traffic, way)
        who = str(count) if way.colocated else f"{count} = {way.learners} + {way.samplers}"
        rows.append([who, *_cells(times), f"{one / times.total:.2f}x", times.bottleneck])
    return aligned(rows)


def _cells(times: Times) -> list[str]:
    return [_seconds(t) for t in (times.sampling, times.programs, times.update, times.transfer, times.total)]


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.1f}"


def _who(to: Arrangement) -> str:
    if to.devices == 1:
        return "one device"
    if to.colocated:
        return f"{to.devices} devices, which learn and sample by turns"
    return f"{plural(to.learners, 'learner')} and {plural(to.samplers, 'sampler')}"


def _caveat(work: Work, traffic: Traffic, to: Arrangement) -> str:
    said = [
        "Programs: what was not hidden behind sampling, bookkeeping included.",
        f"With {plural(to.workers, 'program')} at a time, {work.workers} when it was measured.",
    ]
    stages = [stage for stage in work.iteration if stage.update]
    if not traffic.link and stages:
        each = sum(sent_bytes(stage, traffic, 2) for stage in stages)
        said.append(
            f"What learners send each other is not counted, since no speed was told (--link-gb-per-second): in an iteration "
            f"each of two receives {_disk(round(each))}."
        )
    if to.machines > 1 and not traffic.network:
        said.append("Nor is what goes between machines (--network-gb-per-second).")
    if to.colocated and to.devices > 1:
        said.append("Learners and samplers take turns.")
    return " ".join(said)


def whole_text(found: Measured, amounts: Amounts, traffic: Traffic, to: Arrangement, cost: float, width: int) -> str:
    """All of the run, and what it costs."""
    work = found.work
    seconds = whole_run(work, amounts, traffic, to)
    parts = [plural(amounts.iterations, "iteration")]
    if work.evaluation:
        each = altogether(work, work.evaluation, traffic, to).total
        parts.append(f"{plural(amounts.evaluations, 'evaluation')} of {brief(each)}")
        if amounts.matched and work.goalposts:
            parts.append(f"the untrained model's {plural(amounts.matched, 'share')} of matched draws")
    if work.checkpoint:
        parts.append(f"{plural(amounts.checkpoints, 'checkpoint')} of {brief(work.checkpoint)}")
    said = f"The whole run with {_who(to)}: about {duration(seconds)} ({', '.join(parts)})."
    if not work.evaluation and amounts.evaluations:
        said += " Evaluations are not counted: the run that was measured had none."
    hours = seconds / 3600 * to.devices
    said += f" That is {hours:,.1f} device hours"
    said += f", {hours * cost:,.2f} at {cost:g} an hour." if cost else " (--cost-per-device-hour says what they cost)."
    return "\n".join(_wrapped(said, width))
