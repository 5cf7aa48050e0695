"""Write down the settings of every recipe: `make golden`."""

from pathlib import Path

from gasp_rl.recipes import RECIPES
from gasp_rl.runs.directory import encode_config

FOLDER = Path(__file__).parent / "recipes"

for old in FOLDER.glob("*.json"):
    old.unlink()
for name, recipe in RECIPES.items():
    (FOLDER / f"{name}.json").write_bytes(encode_config(recipe()))
