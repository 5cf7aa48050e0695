"""The log of a search for goalposts: who was asked what, and what came of it. Append-only, so a search can go on.

One record per line, durable when `append` returns. A last line that a crash left torn is dropped; any other line that
cannot be read is an error that names it.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self, TypeAlias

import msgspec

from gasp_rl.config import GradingConfig, ModelConfig, RunConfig
from gasp_rl.errors import RunError
from gasp_rl.rollout import ProblemScore
from gasp_rl.runs.durable import DurableFile
from gasp_rl.runs.results import ModelFacts, PromptFacts

SCHEMA = 1


class Certificate(StrEnum):
    """Whether a problem can be solved at all."""

    CERTIFIED = "certified"
    """Its reference passes all tests here."""
    UNCERTIFIED = "uncertified"
    """It has no reference: nobody knows."""
    DOUBTFUL = "doubtful"
    """Its reference fails here: the tests may be wrong, or ask for what programs do not have here."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How often and how each problem is asked."""

    samples: int
    temperature: float
    max_tokens: int


class AskModel(msgspec.Struct, frozen=True, tag="model"):
    """A filter: one model, asked as it is."""

    name: str
    model: ModelConfig
    draws: Asking


class AskRun(msgspec.Struct, frozen=True, tag="run"):
    """A filter: every evaluated version of a model while a recipe trains it."""

    name: str
    config: RunConfig
    draws: Asking
    on_the_rest: bool = False
    """It trains on what the filters before it left."""


Filter: TypeAlias = AskModel | AskRun


class Began(msgspec.Struct, frozen=True, tag="began"):
    """The first record: everything that decides the others."""

    schema: int
    package: str
    filters: tuple[Filter, ...]
    seed: int
    grading: GradingConfig
    candidates: int
    candidates_digest: str


class Certified(msgspec.Struct, frozen=True, tag="certified"):
    problem: str
    certificate: Certificate
    detail: str = ""
    """What the reference did, where that puts the problem in doubt."""


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """One version of a model begins to be asked; `Drawn` records name it by filter and version."""

    filter: str
    version: str
    """SHA-256 of the weights, or for an endpoint its URL and the model's name; and @ the iterations trained."""
    model: ModelFacts
    prompts: PromptFacts


class Drawn(msgspec.Struct, frozen=True, tag="drawn"):
    """One round of samples for one problem."""

    filter: str
    version: str
    round: int
    wanted: int
    """Samples asked for; those of `score` are the ones that could be judged."""
    seed: int
    score: ProblemScore


class Closed(msgspec.Struct, frozen=True, tag="closed"):
    """A filter has asked all it had to."""

    filter: str


Record: TypeAlias = Began | Certified | Opened | Drawn | Closed


class EvidenceLog:
    """Appends records; `records` is what it holds. One writer at a time: the file is locked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = DurableFile(path)
        try:
            data = path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            self.records: list[Record] = _read(whole, path)
            self._file.keep(len(whole))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, record: Record) -> None:
        """Afterwards it is on disk whole, or, if this raises, not at all."""
        try:
            self._file.append(msgspec.json.encode(record) + b"\n")
        except OSError as error:
            raise RunError(f"{self.path} cannot be written: {error.strerror}. What it holds is intact: make room, and give "
                           "the same command again") from error  # fmt: skip
        self.records.append(record)


def read_evidence(path: Path) -> tuple[Record, ...]:
    """All whole records of a log that may still be growing. Nothing is changed on disk."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    return tuple(_read(data[: data.rfind(b"\n") + 1], path))


_decoder = msgspec.json.Decoder(Record)


def _read(data: bytes, path: Path) -> list[Record]:
    records: list[Record] = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            records.append(_decoder.decode(line))
        except msgspec.MsgspecError as error:
            raise RunError(f"{path} line {number} cannot be read ({error}); restore the file from a copy") from error
    if records and not isinstance(records[0], Began):
        raise RunError(f"{path} is no log of a search for goalposts: it does not begin as one")
    return records
