"""Guided asymmetric self-play (GASP, arXiv:2603.15957): teach a code model the problems it never solves."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gasp_rl.runs.tables import load_run

__all__ = ["__version__", "load_run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Imported when asked for: what runs beside untrusted programs imports this package, and nothing but it."""
    if name == "load_run":
        from gasp_rl.runs.tables import load_run  # noqa: PLC0415

        return load_run
    raise AttributeError(f"module {__name__} has no attribute {name}")
