"""A checkpoint in shares is the same checkpoint, however many wrote it and however many read it."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gasp_rl.errors import EngineError
from gasp_rl.policy.saved import Saved, Share, read_state, write_index, write_share, write_state

COUNTS = st.integers(1, 6)


def tensors(heights: list[int]) -> dict[str, torch.Tensor]:
    return {f"w{n}": torch.arange(2.0 * height).reshape(height, 2) + n for n, height in enumerate(heights)}


def moments_of(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    steps = {f"step/{name}": torch.tensor(3.0) for name in weights}
    return steps | {f"exp_avg/{name}": -weight for name, weight in weights.items()}


def cut(whole: dict[str, torch.Tensor], share: Share) -> dict[str, torch.Tensor]:
    return {name: tensor[share.rows(len(tensor))] if tensor.dim() else tensor for name, tensor in whole.items()}


@given(heights=st.lists(st.integers(1, 9), min_size=1, max_size=3), writers=COUNTS, readers=COUNTS)
def test_readers_have_together_what_writers_had(
    tmp_path_factory: pytest.TempPathFactory, heights: list[int], writers: int, readers: int
) -> None:
    folder, weights = tmp_path_factory.mktemp("checkpoint"), tensors(heights)
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    for share in (Share(place, writers) for place in range(writers)):
        write_share(folder, cut(weights, share), cut(moments_of(weights), share), share)
    write_index(folder, 7, writers)

    read = [read_state(folder, shapes, Share(place, readers).rows) for place in range(readers)]

    assert {one.version for one in read} == {7}
    for name, weight in weights.items():
        assert torch.equal(torch.cat([one.weights[name] for one in read]), weight)
        assert torch.equal(torch.cat([one.moments[f"exp_avg/{name}"] for one in read]), -weight)
        assert all(one.moments[f"step/{name}"] == 3 for one in read)


@given(count=st.integers(0, 20), of=COUNTS)
def test_shares_are_cut_as_torch_cuts(count: int, of: int) -> None:
    chunks = [chunk.tolist() for chunk in torch.chunk(torch.arange(count), of)] if count else []

    found = [list(range(count))[Share(place, of).rows(count)] for place in range(of)]

    assert [rows for rows in found if rows] == chunks


def saved(path: Path) -> dict[str, tuple[int, ...]]:
    weights = tensors([4, 2])
    write_state(path, Saved(weights, moments_of(weights), 1))
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def test_a_share_that_is_missing_or_torn_is_named(tmp_path: Path) -> None:
    shapes = saved(tmp_path / "one")
    file = tmp_path / "one" / "weights-1-of-1.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(EngineError, match="cannot be read"):
        read_state(tmp_path / "one", shapes)
    file.unlink()
    with pytest.raises(EngineError, match="weights-1-of-1"):
        read_state(tmp_path / "one", shapes)


def test_weights_of_other_shapes_are_of_another_model(tmp_path: Path) -> None:
    shapes = saved(tmp_path / "one")

    with pytest.raises(EngineError, match="another model"):
        read_state(tmp_path / "one", shapes | {"w0": (5, 2)})
