"""How to make a run again: the command, and what its settings change of its recipe."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from gasp_rl.config import RunConfig
from gasp_rl.runs.differences import Difference, differences


@dataclass(frozen=True, slots=True)
class Reproduction:
    command: str
    changed: tuple[Difference, ...]
    """Settings that are not the recipe's: its value, the run's."""
    complete: bool
    """Whether the command says all of them; else config.json is needed."""


def reproduction(config: RunConfig, recipe: RunConfig | None) -> Reproduction:
    """Without a recipe of that name (a filter of `gasp mine`, an older version) the settings stand for themselves."""
    if recipe is None:
        return Reproduction("", (), complete=False)
    before, after = msgspec.to_builtins(recipe), msgspec.to_builtins(config)
    changed = tuple(differences(before, after))
    flags: list[str] = []
    complete = True
    for place, value in dict(_settings(before, after)).items():
        if (words := _flag(place.replace("_", "-"), value)) is None:
            complete = False
        else:
            flags += words
    return Reproduction(shlex.join(["gasp", "train", config.recipe, *flags]), changed, complete)


def _settings(before: object, after: object, place: str = "") -> Iterator[tuple[str, object]]:
    """What a flag each can say: lists of plain values are one setting, lists of settings are entered."""
    match before, after:
        case dict(), dict():
            for key in before | after:
                yield from _settings(before.get(key), after.get(key), f"{place}.{key}".lstrip("."))
        case list() | tuple(), list() | tuple() if len(before) == len(after) and any(
            isinstance(a, dict) for a in after
        ):
            for index, (one, other) in enumerate(zip(before, after, strict=True)):
                yield from _settings(one, other, f"{place}.{index}")
        case _ if before != after:
            yield place, after


def _flag(place: str, value: object) -> Sequence[str] | None:
    """As the command line takes it; None where it cannot."""
    match value:
        case bool():
            section, dot, name = place.rpartition(".")
            return [f"--{section}{dot}{'' if value else 'no-'}{name}"]
        case str() | int() | float():
            return [f"--{place}", str(value)]
        case list() | tuple() if not any(isinstance(item, dict | list | tuple) for item in value):
            return [f"--{place}", *map(str, value)]
        case _:
            return None
