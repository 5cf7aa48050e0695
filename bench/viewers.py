"""What watching costs a run: one that trains for real, its page served to many viewers, and the CPU seconds of both.

    python bench/viewers.py --viewers 50 --steps 8

Each viewer does what a browser does: it asks for news, and gets the page when there is some.
"""

import argparse
import asyncio
import gzip
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class Seen:
    pages: int = 0
    answers: int = 0
    bytes: int = 0


def cpu_seconds(pid: int) -> float:
    """Of a process and of its children that have ended."""
    spent = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(map(int, spent[11:15])) / os.sysconf("SC_CLK_TCK")


async def fetched(url: str, seen: Seen) -> bytes:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    asked = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
    writer.write(asked.encode())
    answer = await reader.read()
    writer.close()
    seen.bytes += len(answer)
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 204")):
        raise SystemExit(f"{url}: {head[:60]!r}")
    return body


async def view(url: str, seen: Seen) -> None:
    page, version = await fetched(url, seen), ""
    while True:
        if page:
            version = gzip.decompress(page).partition(b'<body data-version="')[2].partition(b'"')[0].decode()
            seen.pages += 1
        page = await fetched(f"{url}news?since={version}", seen)
        seen.answers += 1


async def measure(url: str, viewers: int, run: subprocess.Popen[bytes]) -> Seen:
    seen = Seen()
    tasks = [asyncio.create_task(view(url, seen)) for _ in range(viewers)]
    while run.poll() is None:
        await asyncio.sleep(0.5)
        for task in tasks:
            if task.done():
                task.result()
    for task in tasks:
        task.cancel()
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--goalposts", type=int, default=16)
    asked = parser.parse_args()
    gasp = [sys.executable, "-m", "gasp_rl.cli"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        options = [f"--steps={asked.steps}", f"--problems.max-goalposts={asked.goalposts}", f"--out={out}"]
        began = time.monotonic(), os.times()
        run = subprocess.Popen([*gasp, "train", "micro-gasp", *options], stdout=subprocess.DEVNULL)  # noqa: S603 - our own command
        while not (out / "journal.jsonl").exists() and run.poll() is None:
            time.sleep(0.2)
        watch = subprocess.Popen([*gasp, "watch", str(out), "--port", "0"], stdout=subprocess.PIPE)  # noqa: S603
        assert watch.stdout
        url = next(found[0] for line in watch.stdout if (found := re.search(r"http://\S+", line.decode())))
        started = cpu_seconds(watch.pid)
        seen = asyncio.run(measure(url, asked.viewers, run))
        served = cpu_seconds(watch.pid)
        watch.terminate()
        trained = os.times().children_user + os.times().children_system
        trained -= began[1].children_user + began[1].children_system
        watch.wait()
    wall = time.monotonic() - began[0]
    print(f"run    {trained:.1f} s of CPU in {wall:.0f} s, {asked.steps} iterations (exit code {run.returncode})")
    print(f"watch  {served:.2f} s of CPU, {started:.2f} of them to start: {served / trained:.2%} of the run's")
    print(
        f"       {asked.viewers} viewers: {seen.pages:,} pages, {seen.answers:,} answers, {seen.bytes / 1e6:.1f} MB served"
    )


if __name__ == "__main__":
    main()
