"""LiveCodeBench's own grader, verdict for verdict, for numbers to set beside its leaderboard's.

It runs a program as one function inside a mocked `sys.stdin`, which fails honest programs (`for line in sys.stdin`, global
counters, `sys.stdout.buffer`) and passes some that Python would not; so this is for measuring, not for reward. The
reference is `lcb_runner/evaluation/testing_util.py` of LiveCodeBench at commit 28fef95.

What it does to a program is done inside the jail, by a program of ours around it (`gasp_rl.sandbox.lcb_guest`); what it
does with the output is done outside. Known differences: its clock is the wall's and its alarm can be caught, ours counts
CPU seconds; it has no memory limit; numpy must be importable there and is not here; objects that claim to equal
everything pass there.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

from gasp_rl.config import Limits
from gasp_rl.sandbox.base import Job
from gasp_rl.sandbox.values import decode


def job(source: str, inputs: tuple[str, ...], entry: str, limits: Limits) -> Job:
    """Run `source` on all inputs in one process, as LiveCodeBench does. entry "": a stdin program."""
    program = f"{_guest()}\nanswer = load({source!r}, {entry!r})\n"
    arguments = inputs if entry else tuple(repr(text) for text in inputs)
    room = len(program.encode()) + limits.source_bytes  # `program` may be longer than `source` for its escapes
    if len(source.encode("utf-8", "surrogatepass")) <= limits.source_bytes:
        limits = replace(limits, source_bytes=room)
    if limits.input_cpu_seconds:  # all tests together may take as long as each of them may
        every = (limits.input_cpu_seconds + 1) * len(inputs) + 5
        limits = replace(limits, cpu_seconds=max(limits.cpu_seconds, every))
    if not entry:  # standard output comes back as the literal of a string, whose escapes take room
        most = 2 * limits.output_bytes
        limits = replace(limits, output_bytes=most, value_bytes=most)
    return Job(program, arguments, "answer", limits)


def standard_output(value: str) -> str | None:
    """What a stdin program printed; None if its process was taken over and said something else."""
    try:
        text = decode(value, max_text=len(value))
    except ValueError:
        return None
    return text if isinstance(text, str) else None


@cache
def _guest() -> str:
    return Path(__file__).with_name("lcb_guest.py").read_text(encoding="utf-8")
