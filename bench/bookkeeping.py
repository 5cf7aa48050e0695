"""What does writing things down cost? CPU seconds of journal, store, metrics and health of a run, beside those of the run.

    python bench/bookkeeping.py                             (runs the demo first: some minutes)
    python bench/bookkeeping.py --run DIR --cpu SECONDS     (a run that is there, and what it took)

Every record of the run's journal is appended to a fresh journal and brought into a fresh store, as the run did it, and
every line of its metrics and curves is written again; the health monitor reads every iteration. The CPU seconds of a run are user and system time of all its processes.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gasp_rl.cli import main
from gasp_rl.progress import Silent
from gasp_rl.runs.append import Appender
from gasp_rl.runs.course import Pilot
from gasp_rl.runs.directory import RunDirectory, read_config
from gasp_rl.runs.journal import IterationRecord, JournalWriter, read_whole
from gasp_rl.runs.metrics import Spent, read_measurements
from gasp_rl.runs.store import StoreKeeper
from gasp_rl.runs.trackers import JsonLines, Tracking

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
    journal_clock, store_clock, metrics_clock, curves_clock, health_clock = (Clock() for _ in range(5))
    tracking = Tracking([JsonLines(again.scalars, print)], ks=(1,))
    pilot = Pilot(read_config(run.config), Silent(), Spent)
    with JournalWriter(again.journal) as journal, StoreKeeper(again.store, journal, print) as keeper:
        with store_clock():
            keeper.update()
        for record in read_whole(run.journal):
            with journal_clock():
                journal.append(record)
            with store_clock():
                keeper.update()
            with health_clock():
                pilot.follow(record)
            if isinstance(record, IterationRecord):
                with curves_clock():
                    tracking.iteration(record.iteration.step, 0)
                    tracking.iterated(record.iteration)
        records = journal.records
    metrics = Appender(again.metrics, print)
    for measurement in read_measurements(run.metrics):
        with metrics_clock():
            metrics.write(measurement)
        with curves_clock():
            tracking.measured(measurement)
    with curves_clock():
        tracking.close()

    print(f"\n{run.root}: {records} records, {cpu:.1f} CPU seconds")
    print(f"{'':<10}{'CPU s':>8}{'share':>9}{'longest, s':>12}{'MiB':>8}")
    rows = {
        "journal": (journal_clock, again.journal),
        "store": (store_clock, again.store),
        "metrics": (metrics_clock, again.metrics),
        "curves": (curves_clock, again.scalars),
        "health": (health_clock, None),
    }
    for name, (clock, path) in rows.items():
        size = f"{path.stat().st_size / 2**20:>8.2f}" if path else ""
        print(f"{name:<10}{clock.seconds:>8.2f}{clock.seconds / cpu:>9.2%}{clock.longest:>12.3f}{size}")
    share = sum(clock.seconds for clock, _ in rows.values()) / cpu
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
