"""A file that one process appends to, piece by piece, each there whole and durable or not at all."""

import fcntl
import os
from pathlib import Path

from gasp_rl.errors import RunError


class DurableFile:
    """Opened or created, and locked against other writers. `end` is where the last whole piece ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _sync_directory(path.parent)
        except BlockingIOError as error:
            os.close(self._file)
            raise RunError(f"{path} is being written by another process; wait for it or use another --out") from error
        self.end = os.fstat(self._file).st_size

    def keep(self, end: int) -> None:
        """Leave nothing behind this place."""
        self.end = end
        if os.fstat(self._file).st_size != end:
            os.ftruncate(self._file, end)
            os.fsync(self._file)

    def append(self, data: bytes) -> None:
        """Raises OSError where there is no room, with the file as it was."""
        self.keep(self.end)  # an interrupt may have kept the one below from happening
        end = self.end
        try:
            left = data
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
            end += len(data)
        finally:
            self.keep(end)

    def close(self) -> None:
        os.close(self._file)


def _sync_directory(path: Path) -> None:
    """Make a new file's name durable too."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
