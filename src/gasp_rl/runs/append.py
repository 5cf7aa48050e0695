"""A file of JSON lines that nothing depends on: where it cannot be written, that is said once and the run goes on."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec


class Appender:
    """Appends values to a file, one per line. A line that a crash left torn is cut away first."""

    def __init__(self, path: Path, note: Callable[[str], None]) -> None:
        self._path = path
        self._note = note
        self._mended = False
        self._failed = False

    def write(self, value: object) -> None:
        if self._failed:
            return
        try:
            with self._path.open("a+b") as file:
                if not self._mended:
                    self._mended = True
                    file.truncate(_whole(self._path))
                file.write(msgspec.json.encode(value) + b"\n")
        except OSError as error:
            self._failed = True
            self._note(f"{self._path} cannot be written: {error.strerror}; the run goes on without it")


def _whole(path: Path) -> int:
    """Bytes of the file up to the end of its last whole line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - (1 << 16))
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0
