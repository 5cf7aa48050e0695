"""Reports of runs that go on, in a browser: served to this machine only, behind a token, and read-only.

A page is built once for all who look at it, when its journal has grown. What building and serving it cost is rested for
until the whole is `SHARE` of one core, so a run loses no more to fifty viewers than to one. The run itself is not touched:
its files are read.
"""

import asyncio
import gzip
import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from gasp_rl.config import RunConfig
from gasp_rl.errors import GaspError, RunError
from gasp_rl.report.listing import Glance, Listed, listing, unreadable
from gasp_rl.report.page import Told, page
from gasp_rl.report.story import Story
from gasp_rl.runs.directory import RunDirectory
from gasp_rl.runs.journal import Journal, JournalTail
from gasp_rl.runs.metrics import read_measurements

SHARE = 0.006
"""Of one core: what this process may use on average, beyond its start and the first page of each run."""

PULSE = 1.0
"""Seconds between two looks at the files."""

PATIENCE = 25.0
"""Seconds that a question for news waits for its answer: less than what connections are usually cut after."""

RUNS = 200
"""Runs of a folder that are listed, the latest first."""

DEEP = 3
"""Folders below the one that was named in which runs are looked for."""

RecipeOf = Callable[[Journal], RunConfig | None]


class Source(Protocol):
    """What a page is built from."""

    @property
    def name(self) -> str:
        """Of the folder."""
        ...

    def changed(self) -> bool:
        """Whether there is anything new since the last build. Cheap."""
        ...

    def build(self, version: str) -> str:
        """The page as it is now."""
        ...


class RunSource:
    """The report of one run. It remembers what it read."""

    def __init__(self, run: RunDirectory, recipe_of: RecipeOf) -> None:
        self._run = run
        self._recipe_of = recipe_of
        self._tail = JournalTail(run.journal)
        self._story = Story()
        self._seen: object = None

    @property
    def name(self) -> str:
        return self._run.root.resolve().name

    def changed(self) -> bool:
        return self._state() != self._seen

    def build(self, version: str) -> str:
        self._seen = self._state()
        news = self._tail.read()
        if news is None:  # the run went back to a checkpoint, behind what was read
            self._tail, self._story = JournalTail(self._run.journal), Story()
            news = self._tail.read() or []
        for record in news:
            self._story.add(record)
        told = Told(
            self._story,
            read_measurements(self._run.metrics),
            self.name,
            self._recipe_of(self._story.journal),
        )
        return page(told, version)

    def _state(self) -> object:
        return _stamp(self._run.journal)


class FolderSource:
    """A list of the runs in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._glances: dict[Path, tuple[JournalTail, Glance]] = {}
        self._seen: object = None

    @property
    def name(self) -> str:
        return self._folder.resolve().name

    def changed(self) -> bool:
        return self._state() != self._seen

    def build(self, version: str) -> str:
        self._seen = self._state()
        found = sorted(runs_in(self._folder), key=lambda path: -_changed_at(path))
        listed = [Listed(str(path.relative_to(self._folder)), self._glance(path)) for path in found[:RUNS]]
        return listing(self.name, listed, len(found) - len(listed), version)

    def _glance(self, root: Path) -> Glance:
        tail, glance = self._glances.setdefault(root, (JournalTail(root / "journal.jsonl"), Glance()))
        try:
            news = tail.read()
            if news is None:
                del self._glances[root]
                return self._glance(root)
        except GaspError as error:
            return Glance(fault=str(error))
        glance.add(news)
        glance.changed = _changed_at(root)
        return glance

    def _state(self) -> object:
        return [(path, _stamp(path / "journal.jsonl")) for path in runs_in(self._folder)]


def runs_in(folder: Path) -> list[Path]:
    """Run directories below a folder. What cannot be read is passed over."""
    found: list[Path] = []
    for root, folders, files in os.walk(folder):
        if "config.json" in files and {"journal.jsonl", "metrics.jsonl"} & set(files):
            found.append(Path(root))
            folders.clear()
        elif len(Path(root).relative_to(folder).parts) >= DEEP:
            folders.clear()
        else:
            folders[:] = sorted(name for name in folders if not name.startswith("."))
    return found


def _stamp(path: Path) -> tuple[int, int]:
    """Changes when a file does; (0, 0) where there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _changed_at(root: Path) -> float:
    return _stamp(root / "journal.jsonl")[1] / 1e9


class Watched:
    """A page that many look at: built when there is news, kept until there is more."""

    def __init__(self, source: Source, closing: Callable[[], bool]) -> None:
        self.version = ""
        self.body = b""
        """Compressed by gzip."""
        self._source = source
        self._closing = closing
        self._count = 0
        self._began = (0.0, 0.0)
        """When the last build began: by the clock, and in CPU seconds of this process."""
        self._building = asyncio.Lock()
        self._news = asyncio.Condition()
        self._waiting = 0
        self._tending: asyncio.Task[None] | None = None

    async def first(self) -> None:
        """There is a page once this returns."""
        if not self.version:
            await self._look()

    async def news(self, since: str) -> None:
        """There is another version once this returns, or some time has gone by."""
        self._waiting += 1
        if self._tending is None or self._tending.done():
            self._tending = asyncio.create_task(self._tend())
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE), self._news:
                    await self._news.wait_for(lambda: self.version != since or self._closing())
        finally:
            self._waiting -= 1

    async def _tend(self) -> None:
        """Look at the files while anybody waits."""
        while self._waiting:
            if self._closing():
                async with self._news:
                    self._news.notify_all()
            elif self._rested() and self._source.changed():
                await self._look()
            await asyncio.sleep(PULSE)

    def _rested(self) -> bool:
        """Whether what was spent since the last build, on it and on all that was served, is a small share of the time."""
        clock, spent = self._began
        return time.process_time() - spent <= SHARE * (time.monotonic() - clock)

    async def _look(self) -> None:
        async with self._building:
            if self.version:  # the first page is all that was written before anybody came: it is not rested for
                self._began = time.monotonic(), time.process_time()
            self._count += 1
            version = f"{os.getpid()}-{self._count}"
            body = await asyncio.to_thread(self._built, version)
            if not self.version:
                self._began = time.monotonic(), time.process_time()
        async with self._news:
            self.version, self.body = version, body
            self._news.notify_all()

    def _built(self, version: str) -> bytes:
        try:
            text = self._source.build(version)
        except GaspError as fault:
            text = unreadable(self._source.name, str(fault), version)
        return gzip.compress(text.encode(), 4)


HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def application(root: Path, token: str, recipe_of: RecipeOf, closing: Callable[[], bool]) -> Starlette:
    """What is served: a run's page, or a folder's list and the pages of its runs. It answers GET and HEAD only.

    `closing`: whether those who wait for news should be let go.
    """
    one = (root / "config.json").is_file()
    top = Watched(RunSource(RunDirectory(root), recipe_of) if one else FolderSource(root), closing)
    runs: dict[str, Watched] = {}

    def asked(request: Request) -> Watched | None:
        if not secrets.compare_digest(request.path_params["token"].encode(), token.encode()):
            return None
        name = request.path_params.get("run")
        if name is None:
            return top
        if name not in runs and (root / name) in runs_in(root):  # a name from the list, never a path of one's own
            runs[name] = Watched(RunSource(RunDirectory(root / name), recipe_of), closing)
        return runs.get(name)

    async def shown(request: Request) -> Response:
        if (watched := asked(request)) is None:
            return PlainTextResponse("There is nothing here.", 404, HEADERS)
        await watched.first()
        body, headers = watched.body, dict(HEADERS)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
        else:
            body = gzip.decompress(body)
        return Response(body, media_type="text/html; charset=utf-8", headers=headers)

    async def news(request: Request) -> Response:
        """The page, once it is another than the one that is known; nothing, if that takes long."""
        if (watched := asked(request)) is None:
            return PlainTextResponse("There is nothing here.", 404, HEADERS)
        known = request.query_params.get("since", "")
        await watched.news(known)
        return await shown(request) if watched.version != known else Response(status_code=204, headers=HEADERS)

    routes = [Route("/", shown), Route("/news", news)]
    if not one:
        routes += [Route("/run/{run:path}/news", news), Route("/run/{run:path}/", shown)]
    return Starlette(
        routes=[Mount("/{token}", routes=routes), Route("/favicon.ico", lambda _: Response(status_code=204))],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])],
    )


def serve(root: Path, recipe_of: RecipeOf, port: int, announce: Callable[[str], None]) -> None:
    """Serve until interrupted; the address is announced first. Port 0, or one that is taken: any that is free."""
    if not root.is_dir():
        raise RunError(f"{root} is not a folder: give a run directory, or a folder of runs")
    listener = _listen(port)
    token = secrets.token_urlsafe(24)
    app = application(root, token, recipe_of, lambda: server.should_exit)
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_level="error", access_log=False, server_header=False, lifespan="off", timeout_graceful_shutdown=5
        )
    )
    announce(f"http://127.0.0.1:{listener.getsockname()[1]}/{token}/")
    with listener, suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


def _listen(port: int) -> socket.socket:
    for wanted in (port, 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", wanted))
            listener.listen()
        except OSError:
            listener.close()
            if wanted == 0:
                raise
        else:
            return listener
    raise AssertionError("unreachable")
