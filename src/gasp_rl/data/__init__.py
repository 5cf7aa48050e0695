"""Files that ship with the package: the embedded model (`micro/`) and the MicroCode problems (`microcode/`)."""

from pathlib import Path

MICRO_MODEL = Path(__file__).parent / "micro"
"""A Hugging Face directory."""

MICROCODE = Path(__file__).parent / "microcode"
"""One JSONL of problems per split."""
