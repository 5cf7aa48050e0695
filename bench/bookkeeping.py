"""What does writing things down cost? CPU seconds of journal, store and metrics of a run, beside those of the run.

    python bench/bookkeeping.py                             (runs the demo first: some minutes)
    python bench/bookkeeping.py --run DIR --cpu SECONDS     (a run that is there, and what it took)

Every record of the run's journal is appended to a fresh journal and brought into a fresh store, as the run did it, and
every line of its metrics is written again. The CPU seconds of a run are user and system time of all its processes.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gasp_rl.cli import main
from gasp_rl.runs.append import Appender
from gasp_rl.runs.directory import RunDirectory
from gasp_rl.runs.journal import JournalWriter, read_whole
from gasp_rl.runs.metrics import read_measurements
from gasp_rl.runs.store import StoreKeeper

TARGET = 0.02
"""Share of the run's CPU seconds."""


class Clock:
    """CPU seconds of this process, summed over the times it was running."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.longest = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        started = time.process_time()
        yield
        took = time.process_time() - started
        self.seconds += took
        self.longest = max(self.longest, took)


def demo(out: Path) -> float:
    """Run the demo; CPU seconds of it and of the sandboxes it started."""
    if code := main(["demo", "--out", str(out)]):
        raise SystemExit(code)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def replay(run: RunDirectory, folder: Path, cpu: float) -> None:
    again = RunDirectory(folder)
    journal_clock, store_clock, metrics_clock = Clock(), Clock(), Clock()
    with JournalWriter(again.journal) as journal, StoreKeeper(again.store, journal, print) as keeper:
        with store_clock():
            keeper.update()
        for record in read_whole(run.journal):
            with journal_clock():
                journal.append(record)
            with store_clock():
                keeper.update()
        records = journal.records
    metrics = Appender(again.metrics, print)
    for measurement in read_measurements(run.metrics):
        with metrics_clock():
            metrics.write(measurement)

    print(f"\n{run.root}: {records} records, {cpu:.1f} CPU seconds")
    print(f"{'':<10}{'CPU s':>8}{'share':>9}{'longest, s':>12}{'MiB':>8}")
    rows = ((again.journal, journal_clock), (again.store, store_clock), (again.metrics, metrics_clock))
    for path, clock in rows:
        size = path.stat().st_size / 2**20
        print(f"{path.stem:<10}{clock.seconds:>8.2f}{clock.seconds / cpu:>9.2%}{clock.longest:>12.3f}{size:>8.2f}")
    share = sum(clock.seconds for _, clock in rows) / cpu
    print(f"together {share:.2%} of the run; {'within' if share <= TARGET else 'MORE THAN'} {TARGET:.0%}")


def compare() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--cpu", type=float)
    asked = parser.parse_args()
    if (asked.run is None) != (asked.cpu is None):
        parser.error("--run and --cpu go together")
    with tempfile.TemporaryDirectory() as folder:
        run, cpu = asked.run, asked.cpu
        if run is None:
            run = Path(folder) / "demo"
            cpu = demo(run)
        again = Path(folder) / "again"
        again.mkdir()
        replay(RunDirectory(run), again, cpu)


if __name__ == "__main__":
    compare()
