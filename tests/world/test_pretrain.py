"""Pretraining: every sequence once, only completions are learned, the same bytes every time."""

import hashlib
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.config import ModelConfig
from gasp_rl.policy.local import LocalEngine
from gasp_rl.world import vocabulary
from gasp_rl.world.pretrain import (
    Encoded,
    ModelShape,
    PretrainConfig,
    batch_loss,
    batches,
    build_model,
    pretrain,
    schedule,
)

CPU = torch.device("cpu")
SHAPE = ModelShape(layers=1, hidden=32, heads=2, intermediate=48)
TINY = PretrainConfig(tokens=3000, batch_tokens=512, threads=1, shape=SHAPE)


def sequence(length: int, prompt: int = 1) -> Encoded:
    return Encoded(tuple(2 + i % 90 for i in range(length)), prompt, length)


@given(st.lists(st.integers(2, 60), min_size=1, max_size=60), st.integers(64, 400))
def test_batches_hold_every_sequence_once_and_stay_within_the_budget(lengths: list[int], budget: int) -> None:
    sequences = [sequence(length) for length in lengths]

    cut = batches(sequences, budget, random.Random(0))

    assert sorted(len(s.tokens) for batch in cut for s in batch) == sorted(lengths)
    assert all(len(batch) * max(len(s.tokens) for s in batch) <= budget for batch in cut)


def test_like_lengths_go_together_so_little_is_padding() -> None:
    rng = random.Random(0)
    sequences = [sequence(rng.randint(10, 100)) for _ in range(2000)]

    cut = batches(sequences, 2048, rng)

    real = sum(len(s.tokens) for s in sequences)
    padded = sum(len(batch) * max(len(s.tokens) for s in batch) for batch in cut)
    assert padded < 1.02 * real


def test_the_loss_is_of_completions_alone_and_does_not_see_the_padding() -> None:
    model = build_model(SHAPE, 0, CPU)
    short, long = sequence(8, prompt=5), sequence(30, prompt=20)

    with torch.no_grad():
        alone = [batch_loss(model, [s], 1.0, CPU) * (len(s.tokens) - s.prompt) for s in (short, long)]
        together = batch_loss(model, [short, long], 1.0, CPU) * (3 + 10)

    assert together.item() == pytest.approx(sum(loss.item() for loss in alone), rel=1e-5)


def test_randomly_drawn_inputs_weigh_less_but_their_line_ends_do_not() -> None:
    model = build_model(SHAPE, 0, CPU)
    newline = next(place for place, piece in enumerate(vocabulary.pieces()) if piece == "\n")
    noisy, structural = Encoded((5, 6, 7, 8), 2, 3), Encoded((5, 6, 7, newline), 2, 3)

    with torch.no_grad():
        light, heavy = (batch_loss(model, [noisy], weight, CPU).item() for weight in (0.0, 1.0))
        same = [batch_loss(model, [structural], weight, CPU).item() for weight in (0.0, 1.0)]

    assert light != heavy
    assert same[0] == same[1]


def test_the_learning_rate_rises_then_falls_to_a_twentieth() -> None:
    factors = [schedule(step, 100, 0.05) for step in range(100)]

    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert factors[-1] == pytest.approx(0.05, abs=0.01)


def test_the_shipped_shape_has_between_two_and_four_million_parameters_and_fits_in_8_mb() -> None:
    model = build_model(ModelShape(), 0, CPU)

    parameters = sum(p.numel() for p in model.parameters())

    assert 2e6 < parameters < 4e6
    assert 2 * parameters < 8e6  # two bytes each


def pretrain_apart(out: Path, hash_seed: int) -> None:
    """In a process of its own."""
    sizes = [
        "--cfg.tokens",
        "3000",
        "--cfg.batch-tokens",
        "512",
        "--cfg.threads",
        "1",
        "--cfg.shape.layers",
        "1",
        "--cfg.shape.hidden",
        "32",
        "--cfg.shape.heads",
        "2",
        "--cfg.shape.intermediate",
        "48",
    ]
    command = [sys.executable, "-m", "gasp_rl.world.pretrain", "--out", str(out), *sizes]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": str(hash_seed)})


def files_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_pretraining_in_two_processes_writes_the_same_bytes_and_a_model_that_the_engine_opens(tmp_path: Path) -> None:
    pretrain_apart(tmp_path / "a", hash_seed=1)
    pretrain_apart(tmp_path / "b", hash_seed=2)
    pretrain(tmp_path / "c", replace(TINY, seed=1))

    first, again, other = (files_of(tmp_path / name) for name in "abc")
    engine = LocalEngine.open(ModelConfig(path=str(tmp_path / "a"), device="cpu", threads=1))
    assert first == again
    assert first["model.safetensors"] != other["model.safetensors"]
    assert engine.context == SHAPE.positions
    assert engine.tokenizer.decode(engine.tokenizer.encode("on the list: (1) reverse")) == "on the list: (1) reverse"
