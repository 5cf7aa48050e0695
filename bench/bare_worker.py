"""The sandbox's worker without confinement: to measure what that costs, and what a fork of the worker costs by itself.

python -P -s -S -B bare_worker.py CHANNEL LEVEL     serves jobs; of all limits, those of children remain
python -P -s -S -B bare_worker.py floor             reads numbers: forks so many times, and answers 0
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn


class NoFilter:
    """In the place of a system call filter."""

    def install(self) -> None:
        pass


def fork_on_request() -> NoReturn:
    for line in sys.stdin:
        for _ in range(int(line)):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.wait4(pid, 0)
        print(0, flush=True)
    os._exit(0)


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
    worker = import_module("gasp_rl.sandbox.worker")
    vars(worker).update(confine=lambda _: NoFilter(), check_confinement=lambda *_: None)
    if sys.argv[1] == "floor":
        vars(worker).update(read_job=fork_on_request)
        sys.argv[1:] = [str(os.open(os.devnull, os.O_RDWR)), "L1"]
    worker.main()


if __name__ == "__main__":
    main()
