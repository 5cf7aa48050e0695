"""Where two values that were turned into dicts and lists differ."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    place: str
    """Such as `phases.0.proposals.3.reward`."""
    before: object
    after: object

    def __str__(self) -> str:
        return f"{self.place}: {self.before} -> {self.after}"


def differences(before: object, after: object, place: str = "") -> Iterator[Difference]:
    """Every leaf that differs, in order; of two lists, those that both have, after their lengths."""
    match before, after:
        case dict(), dict():
            for key in before | after:
                yield from differences(before.get(key), after.get(key), f"{place}.{key}".lstrip("."))
        case list() | tuple(), list() | tuple():
            if len(before) != len(after):
                yield Difference(f"{place}.length".lstrip("."), len(before), len(after))
            for index, (one, other) in enumerate(zip(before, after, strict=False)):
                yield from differences(one, other, f"{place}.{index}".lstrip("."))
        case _ if before != after and (before == before or after == after):  # noqa: PLR0124 - two nan are the same
            yield Difference(place, before, after)
