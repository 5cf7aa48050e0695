"""HTML as values. A plain string is text and is escaped; only these functions make markup, so none can be forgotten."""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from gasp_rl.report.text import shortened, visible

_VOID = frozenset({"meta", "br"})


@dataclass(frozen=True, slots=True)
class Html:
    """Finished markup."""

    source: str


Child: TypeAlias = Html | str | None
"""A string is text; None is nothing."""


def el(name: str, /, *children: Child, **attributes: str | float | None) -> Html:
    """One element: `el("p", "1 < 2", class_="note")`. Attributes that are None are left out; `_` stands for `-`."""
    opening = name + "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(visible(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{opening}>")
    return Html(f"<{opening}>{join(children).source}</{name}>")


def join(children: Iterable[Child]) -> Html:
    return Html("".join(_source(child) for child in children))


def written(text: str, characters: int = 1500, **attributes: str | float | None) -> Html:
    """What a model wrote: its line breaks kept, its length bounded, its direction kept to itself."""
    return el("pre", shortened(text, characters), **attributes)


def details(summary: Child, *children: Child, **attributes: str | float | None) -> Html:
    """Folded until asked for; reached and opened by the keyboard as by the mouse."""
    return el("details", el("summary", summary), *children, **attributes)


def table(head: Iterable[str], rows: Iterable[Iterable[Child]], *, caption: str = "", label: str = "") -> Html:
    """A table that scrolls in its own box where the screen is narrow. Its label is for those who do not see it."""
    return el(
        "div",
        el(
            "table",
            el("caption", caption) if caption else None,
            el("thead", el("tr", *(el("th", title, scope="col") for title in head))),
            el("tbody", *(el("tr", *(el("td", cell) for cell in row)) for row in rows)),
        ),
        class_="scroll",
        tabindex=0,
        role="region",
        aria_label=caption or label,
    )


def _source(child: Child) -> str:
    if child is None:
        return ""
    return child.source if isinstance(child, Html) else html.escape(visible(child))
