"""A watched run: who may see it, what is served, and that it follows what happens."""

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from gasp_rl.config import GaspConfig, RunConfig
from gasp_rl.runs.directory import RunDirectory, create_run
from gasp_rl.runs.journal import Journal, JournalWriter

CONFIG = RunConfig(recipe="micro-gasp", steps=20, gasp=GaspConfig())


@dataclass(frozen=True)
class Site:
    url: str
    pid: int

    def get(self, path: str = "", *, method: str = "GET", host: str = "") -> tuple[int, str]:
        parts = urlsplit(self.url)
        assert parts.hostname
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        connection.request(
            method, path if path.startswith("/") else parts.path + path, headers={"Host": host} if host else {}
        )
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    @property
    def cpu_seconds(self) -> float:
        spent = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(spent[11]) + int(spent[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def watching(root: Path) -> Iterator[Site]:
    """`gasp watch`, from its first line to Ctrl-C, which it has to take well."""
    command = [sys.executable, "-m", "gasp_rl.cli", "watch", str(root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        said = ""
        while not (found := re.search(r"http://\S+", said)):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            said += line
        try:
            yield Site(found[0], process.pid)
        finally:
            process.send_signal(signal.SIGINT)
            _, complaints = process.communicate(timeout=60)
    assert (process.returncode, complaints) == (0, "")


def write(run: RunDirectory, journal: Journal, start: int, end: int) -> None:
    with JournalWriter(run.journal) as writer:
        for record in journal.records[start:end]:
            writer.append(record)


@pytest.fixture
def folder(tmp_path: Path, run: Journal) -> Path:
    write(create_run(tmp_path / "runs" / "one", CONFIG), run, 0, 5)
    write(create_run(tmp_path / "runs" / "mined" / "two words", CONFIG), run, 0, len(run.records))
    return tmp_path / "runs"


def test_a_run_is_served_to_those_who_know_the_token_only(folder: Path) -> None:
    with watching(folder / "one") as site:
        port = urlsplit(site.url).port

        assert site.get()[0] == 200
        assert "2 of 20 iterations" in site.get()[1]
        assert [site.get(path)[0] for path in ("/", "/wrong/", "/wrong/news", "/" + "x" * 32 + "/page")] == [404] * 4
        assert site.get(host=f"elsewhere.example:{port}")[0] == 400
        assert [site.get(method=method)[0] for method in ("POST", "PUT", "DELETE")] == [405] * 3


def test_a_folder_lists_its_runs_and_leads_to_each_and_to_nothing_else(folder: Path) -> None:
    (folder / "secret.txt").write_text("secret", encoding="utf-8")
    with watching(folder) as site:
        status, text = site.get()
        links = re.findall(r'href="(run/[^"]+)"', text)

        assert (status, sorted(links)) == (200, ["run/mined/two%20words/", "run/one/"])
        assert "finished" in text
        assert "The base model, given the same 128 draws each" in site.get("run/mined/two%20words/")[1]
        for path in ("run/secret.txt/", "run/../../", "run/%2e%2e/", "run//etc/", "run/mined/", "secret.txt"):
            assert site.get(path)[0] == 404


def test_watching_changes_nothing(folder: Path) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}

    before = state()
    with watching(folder) as site:
        site.get()
        site.get("run/one/")

    assert state() == before


def test_a_run_that_cannot_be_read_says_why_and_the_others_are_listed(folder: Path) -> None:
    journal = folder / "one" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b"{}\n", *lines[3:]]))
    with watching(folder) as site:
        assert "line 3 is corrupt" in site.get()[1]
        assert "line 3 is corrupt" in site.get("run/one/")[1]
        assert "two words" in site.get()[1]


def test_a_folder_without_runs_says_so(tmp_path: Path) -> None:
    with watching(tmp_path) as site:
        assert "No runs here yet." in site.get()[1]


@pytest.mark.browser
def test_a_new_iteration_is_shown_without_reload(folder: Path, run: Journal) -> None:
    path = shutil.which("chromium")
    assert path
    with watching(folder) as site, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = browser.new_page()
        complaints: list[str] = []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.goto(site.url)
        tab.click("text=one")
        tab.wait_for_selector("#view .head")
        tab.fill("#filter-words", "sorted")
        expect(tab.locator("#found")).to_contain_text(" of 16 goalposts")
        tab.evaluate("window.same = true")

        write(RunDirectory(folder / "one"), run, 5, 6)
        expect(tab.locator("h1")).to_contain_text("3 of 20 iterations", timeout=60_000)
        expect(tab.locator(".list button").first).to_be_visible()

        assert tab.evaluate("window.same")
        assert tab.input_value("#filter-words") == "sorted"
        assert complaints == []
        browser.close()
