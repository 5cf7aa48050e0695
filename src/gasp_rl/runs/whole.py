"""Files that are written whole or not at all."""

import os
import tempfile
from pathlib import Path

from gasp_rl.errors import InputError


def write_whole(path: Path, data: bytes) -> None:
    """Durable under its name when this returns; whoever reads meanwhile finds what was there before."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh = Path(name)
        fresh.chmod(0o644)
        fresh.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
