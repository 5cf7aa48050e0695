"""Programs per second of sandbox hosts of a cluster beside a pool in this process, on the same jobs, taking turns.

python bench/hosts.py --jobs 600
"""

import time
from contextlib import closing
from dataclasses import dataclass

import tyro

from gasp_rl.cluster import Cluster
from gasp_rl.config import RayConfig, SandboxConfig
from gasp_rl.sandbox.base import Job, Sandbox
from gasp_rl.sandbox.hosts import Hosts
from gasp_rl.sandbox.local import LocalSandbox


@dataclass(frozen=True)
class Bench:
    jobs: int = 600
    rounds: int = 5
    hosts: int = 2


def rate(sandbox: Sandbox, jobs: int) -> float:
    start = time.perf_counter()
    programs = (
        Job(f"def f(x):\n    return [i * x for i in range(200 + {n})][-1]\n", (str(n), str(n + 1))) for n in range(jobs)
    )
    assert sum(1 for _ in sandbox.execute(programs)) == jobs
    return jobs / (time.perf_counter() - start)


def main() -> None:
    asked = tyro.cli(Bench)
    ray, one = RayConfig(sandboxes=asked.hosts, object_store_mb=80), SandboxConfig(workers=1)
    with (
        closing(Cluster(ray)) as cluster,
        closing(Hosts(cluster, ray, print)) as hosts,
        closing(hosts.open(one)) as hosted,
        closing(LocalSandbox(SandboxConfig(workers=asked.hosts))) as pool,
        closing(LocalSandbox(one)) as single,
    ):
        sides: dict[str, Sandbox] = {
            f"{asked.hosts} hosts of one worker": hosted,
            f"one pool of {asked.hosts} workers": pool,
            "one pool of one worker": single,
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for sandbox in sides.values():
            rate(sandbox, 20)  # workers start
        for _ in range(asked.rounds):
            for name, sandbox in sides.items():
                rates[name].append(rate(sandbox, asked.jobs))
        for name, found in rates.items():
            print(f"{name:<28} {sorted(found)[len(found) // 2]:7.0f} programs/s (median of {asked.rounds})")


if __name__ == "__main__":
    main()
