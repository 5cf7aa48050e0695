"""One line of a journal: `{"schema": 2, "sum": "...", "record": {...}, "texts": "...", "trace": {...}}`.

- A long text stands in the record by its address, `#` and the start of its SHA-256; it lies once, compressed, in the
  `texts` of the same line (base64 of zlib of a JSON array).
- `trace` is the part that few readers want and that is most: it is read only when asked for.
- `sum` is the start of the SHA-256 over the sum of the line before and the bytes of the other three, so a line that was
  changed, lost or moved is found.
"""

import base64
import hashlib
import math
import zlib
from dataclasses import dataclass

import msgspec

SCHEMA = 2
"""In schema 1 texts stood in the record itself and there was no trace. It is still read."""

LONG = 40
"""A text of more characters is kept by address."""

MARK = "#"


@dataclass(frozen=True, slots=True)
class Line:
    """What a line holds, as builtins."""

    sum: str
    record: object
    _trace: bytes
    _texts: dict[str, str]

    @property
    def trace(self) -> object:
        """None where there is none."""
        return _restored(msgspec.json.decode(self._trace), self._texts) if self._trace else None


class NewerSchemaError(Exception):
    """The line was written by a later gasp-rl; its argument is the schema."""


def encode_line(record: object, trace: object, previous: str) -> tuple[bytes, str]:
    """The bytes of a line, end included, and its sum; `previous` is that of the line before."""
    texts: dict[str, str] = {}
    body = msgspec.json.encode(_stored(msgspec.to_builtins(record), texts))
    extra = b"" if trace is None else msgspec.json.encode(_stored(msgspec.to_builtins(trace), texts))
    packed = base64.b64encode(zlib.compress(msgspec.json.encode(list(texts.values())))).decode() if texts else ""
    checksum = _checksum(previous, body, packed.encode(), extra)
    line = _Line(SCHEMA, checksum, msgspec.Raw(body), packed, msgspec.Raw(extra) if extra else msgspec.UNSET)
    return msgspec.json.encode(line) + b"\n", checksum


def decode_line(line: bytes, previous: str) -> Line:
    """The opposite. Raises ValueError for a line that is not whole, NewerSchemaError for one we cannot know."""
    if not line.endswith(b"\n"):
        raise ValueError("it has no end")
    read = _decoder.decode(line)
    if read.schema > SCHEMA:
        raise NewerSchemaError(read.schema)
    trace = b"" if isinstance(read.trace, msgspec.UnsetType) else bytes(read.trace)
    if read.sum != _checksum(previous, bytes(read.record), read.texts.encode(), trace):
        raise ValueError("its checksum does not fit")
    if read.schema == 1:
        return Line(read.sum, msgspec.json.decode(read.record), b"", {})
    texts = {_address(text): text for text in _unpacked(read.texts)}
    return Line(read.sum, _restored(msgspec.json.decode(read.record), texts), trace, texts)


class _Line(msgspec.Struct, omit_defaults=True):
    schema: int
    sum: str
    record: msgspec.Raw
    texts: str = ""
    trace: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decoder = msgspec.json.Decoder(_Line)


def _checksum(previous: str, *parts: bytes) -> str:
    return hashlib.sha256(b"".join([previous.encode(), *parts])).hexdigest()[:16]


def _unpacked(texts: str) -> list[str]:
    if not texts:
        return []
    try:
        return msgspec.json.decode(zlib.decompress(base64.b64decode(texts, validate=True)), type=list[str])
    except zlib.error as error:
        raise ValueError(f"its texts cannot be unpacked: {error}") from error


def _address(text: str) -> str:
    return MARK + hashlib.sha256(text.encode()).hexdigest()[:16]


def _stored(value: object, texts: dict[str, str]) -> object:
    """The value with long texts replaced by their address, and with what JSON cannot hold changed: numbers that are not
    finite become text, lone surrogates, which a model may well print, become question marks.
    """
    match value:
        case str():
            text = value if value.isascii() else value.encode("utf-8", "replace").decode()
            if len(text) <= LONG and not text.startswith(MARK):
                return text
            address = _address(text)
            texts[address] = text
            return address
        case dict():
            return {key: _stored(item, texts) for key, item in value.items()}
        case list() | tuple():
            return [_stored(item, texts) for item in value]
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value


def _restored(value: object, texts: dict[str, str]) -> object:
    match value:
        case str() if value.startswith(MARK):
            if value not in texts:
                raise ValueError(f"it lacks the text {value}")
            return texts[value]
        case dict():
            return {key: _restored(item, texts) for key, item in value.items()}
        case list():
            return [_restored(item, texts) for item in value]
        case _:
            return value
