"""What `RayEngine` promises beyond `Engine`: that it does what one process does, and what happens when a process is lost."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gasp_rl.cluster import Cluster
from gasp_rl.config import LoraConfig, ModelConfig, RayConfig
from gasp_rl.errors import EngineError, ModelError, WorkerLostError
from gasp_rl.policy.engine import Engine, Loss, OptimParams, Sample, SampleRequest, SamplingParams, TrainItem
from gasp_rl.policy.local import TOKEN_BUDGET, LocalEngine
from gasp_rl.policy.ray_engine import LearnerProcess, RayEngine, _Broadcast

pytestmark = pytest.mark.ray

TEXTS = ["what is it", "a", "tell me more about that", "a b c", "no", "and then there was a fox"]


def requests(engine: Engine, n: int = 4) -> list[SampleRequest]:
    return [
        SampleRequest(engine.tokenizer.encode(text), n, SamplingParams(15), seed) for seed, text in enumerate(TEXTS)
    ]


def sampled(engine: Engine) -> dict[int, list[Sample]]:
    return dict(engine.sample(requests(engine)))


def training(engine: Engine) -> list[TrainItem]:
    """Recorded rollouts with advantages of both signs."""
    asked = requests(engine)
    return [
        TrainItem(asked[index].prompt, sample.tokens, (-1.0) ** place * (1 + index), sample.logprobs, 1 + place)
        for index, samples in sorted(sampled(engine).items())
        for place, sample in enumerate(samples)
    ]


def learn(engine: Engine, items: list[TrainItem], lr: float = 1e-3) -> None:
    engine.forward_backward(items, Loss(100.0)).result()
    engine.optim_step(OptimParams(lr)).result()
    engine.publish().result()


def weights(engine: Engine, path: Path) -> dict[str, Tensor]:
    engine.save(path)
    return whole(path, "weights")


def whole(path: Path, kind: str) -> dict[str, Tensor]:
    """The shares of a checkpoint put together."""
    shares = [load_file(file) for file in sorted(path.glob(f"{kind}-*"))]
    return {
        name: torch.cat([share[name] for share in shares]) if first.dim() else first
        for name, first in shares[0].items()
    }


def furthest(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


@contextmanager
def opened(
    cluster: Cluster, config: ModelConfig, notes: list[str], *, learners: int = 1, samplers: int = 1
) -> Iterator[RayEngine]:
    ray = RayConfig(learners=learners, samplers=samplers)
    with closing(RayEngine(cluster, config, ray, TOKEN_BUDGET, notes.append)) as engine:
        yield engine


def test_it_has_the_same_model_and_samples_the_same_as_one_process(
    ray_engine: RayEngine, model_config: ModelConfig
) -> None:
    local = LocalEngine.open(model_config)

    assert ray_engine.digest == local.digest
    assert (ray_engine.dtype, ray_engine.context) == (local.dtype, local.context)
    ours, theirs = sampled(ray_engine), sampled(local)
    assert {i: [s.tokens for s in ss] for i, ss in ours.items()} == {
        i: [s.tokens for s in ss] for i, ss in theirs.items()
    }


def test_three_updates_from_the_same_rollouts_give_the_parameters_that_one_process_finds(
    ray_engine: RayEngine, model_config: ModelConfig, tmp_path: Path
) -> None:
    local = LocalEngine.open(model_config)
    items = training(local)
    before = weights(local, tmp_path / "before")

    for _ in range(3):
        for engine in (ray_engine, local):
            learn(engine, items)

    ours, theirs = weights(ray_engine, tmp_path / "ray"), weights(local, tmp_path / "local")
    assert furthest(ours, theirs) < 1e-4
    assert furthest(before, theirs) > 1e-3  # or there was nothing to agree on
    assert ray_engine.version == local.version == 3


def test_the_update_is_the_same_however_the_items_are_cut(ray_engine: RayEngine, tmp_path: Path) -> None:
    """All of it at once; one item a call, so that one learner has nothing to do; and both halves in another order."""
    items, found = training(ray_engine), []
    ray_engine.save(tmp_path / "beginning")

    for number, cut in enumerate([[items], [[item] for item in items], [items[12:], items[:12]]]):
        ray_engine.load(tmp_path / "beginning")
        for part in cut:
            ray_engine.forward_backward(part, Loss(100.0)).result()
        norm = ray_engine.optim_step(OptimParams(1e-3, eps=1e-3)).result().grad_norm
        ray_engine.publish().result()
        found.append((norm, weights(ray_engine, tmp_path / str(number))))

    assert found[1][0] == pytest.approx(found[0][0], rel=1e-5)
    assert furthest(found[0][1], found[1][1]) < 1e-5
    assert furthest(found[0][1], found[2][1]) < 1e-5


def test_the_mean_ratio_is_one_right_after_publishing(ray_engine: RayEngine) -> None:
    learn(ray_engine, training(ray_engine))
    items = training(ray_engine)

    learned = ray_engine.logprobs(items).result()

    ratios = [
        torch.tensor(new).sub(torch.tensor(item.old_logprobs)).exp() for item, new in zip(items, learned, strict=True)
    ]
    assert torch.cat(ratios).double().mean().item() == pytest.approx(1.0, abs=1e-6)
    assert torch.cat(ratios).sub(1).abs().max().item() < 1e-4


def test_only_the_optimizer_step_moves_and_clears(ray_engine: RayEngine) -> None:
    items, before = training(ray_engine), ray_engine.digest

    ray_engine.forward_backward(items, Loss(1.0)).result()
    assert ray_engine.digest == before
    assert ray_engine.optim_step(OptimParams(0.01)).result().grad_norm > 0
    after = ray_engine.digest
    assert after != before
    assert ray_engine.optim_step(OptimParams(0.01)).result().grad_norm == 0
    assert sampled(ray_engine)[0][0].version == 0


def test_a_gradient_that_is_not_finite_is_skipped_by_every_learner(ray_engine: RayEngine) -> None:
    items, before = training(ray_engine), ray_engine.digest

    ray_engine.forward_backward([replace(items[0], advantage=float("inf"))], Loss(1.0)).result()

    assert ray_engine.optim_step(OptimParams(0.01)).result().skipped
    assert ray_engine.digest == before


def test_equal_runs_are_equal_bits(ray_engine: RayEngine, tmp_path: Path) -> None:
    runs = []
    ray_engine.save(tmp_path / "beginning")
    for number in range(2):
        ray_engine.load(tmp_path / "beginning")
        order = []
        for _ in range(2):
            order += list(ray_engine.sample(requests(ray_engine)))
            learn(ray_engine, training(ray_engine))
        runs.append((order, ray_engine.digest, weights(ray_engine, tmp_path / str(number))))

    assert runs[0][:2] == runs[1][:2]
    assert furthest(runs[0][2], runs[1][2]) == 0.0


def test_a_checkpoint_goes_on_bit_for_bit_and_in_one_process_too(
    ray_engine: RayEngine, model_config: ModelConfig, tmp_path: Path
) -> None:
    learn(ray_engine, training(ray_engine))
    ray_engine.save(tmp_path / "checkpoint")
    items = training(ray_engine)
    learn(ray_engine, items)
    straight = ray_engine.digest
    learn(ray_engine, items)

    ray_engine.load(tmp_path / "checkpoint")
    assert ray_engine.version == 1
    learn(ray_engine, items)
    assert ray_engine.digest == straight

    local = LocalEngine.open(model_config)
    local.load(tmp_path / "checkpoint")
    learn(local, items)
    assert furthest(weights(local, tmp_path / "local"), weights(ray_engine, tmp_path / "ray")) < 1e-5


def test_each_learner_writes_its_share_and_two_go_on_from_what_one_process_wrote(
    ray_engine: RayEngine, model_config: ModelConfig, tmp_path: Path
) -> None:
    local = LocalEngine.open(model_config)
    learn(local, training(local))
    local.save(tmp_path / "one")

    ray_engine.load(tmp_path / "one")
    ray_engine.save(tmp_path / "two")

    assert (ray_engine.digest, ray_engine.version) == (local.digest, 1)
    shares = [
        (tmp_path / "two" / f"{kind}-{n}-of-2.safetensors").stat().st_size
        for kind in ("weights", "optimizer")
        for n in (1, 2)
    ]
    assert max(shares[:2]) < 1.1 * min(shares[:2])
    assert max(shares[2:]) < 1.1 * min(shares[2:])
    for kind in ("weights", "optimizer"):
        one, two = whole(tmp_path / "one", kind), whole(tmp_path / "two", kind)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_saving_asks_for_weights_that_are_published(ray_engine: RayEngine, tmp_path: Path) -> None:
    ray_engine.forward_backward(training(ray_engine), Loss(1.0)).result()
    ray_engine.optim_step(OptimParams(0.01)).result()

    with pytest.raises(EngineError, match="publish first"):
        ray_engine.save(tmp_path / "checkpoint")


def test_a_checkpoint_that_is_damaged_or_missing_is_refused_and_changes_nothing(
    ray_engine: RayEngine, tmp_path: Path
) -> None:
    ray_engine.save(tmp_path / "damaged")
    share = tmp_path / "damaged" / "optimizer-2-of-2.safetensors"
    share.write_bytes(share.read_bytes()[:-1])
    for name in ("missing", "damaged"):
        with pytest.raises(EngineError, match=f"{name} cannot be read"):
            ray_engine.load(tmp_path / name)
    assert ray_engine.logprobs(training(ray_engine)[:1]).result()  # no learner waits for another


def test_bad_requests_and_items_are_refused_before_any_process_is_asked(ray_engine: RayEngine) -> None:
    with pytest.raises(EngineError, match="got 0"):
        ray_engine.sample([SampleRequest((), 1, SamplingParams(5), 0)])
    with pytest.raises(EngineError, match="old_logprobs"):
        ray_engine.forward_backward([TrainItem((5,), (6, 7), 1.0, (-1.0,))], Loss(1.0))
    with pytest.raises(EngineError, match="empty prompt"):
        ray_engine.logprobs([TrainItem((), (6,), 1.0, (-1.0,))])


def test_an_answer_under_way_keeps_the_weights_it_began_with(ray_engine: RayEngine, tmp_path: Path) -> None:
    items, undisturbed = training(ray_engine), list(ray_engine.sample(requests(ray_engine)))

    stream = ray_engine.sample(requests(ray_engine))
    first = next(stream)
    learn(ray_engine, items, lr=0.01)

    assert [first, *stream] == undisturbed
    assert sampled(ray_engine) != dict(undisturbed)


def test_the_untrained_model_can_be_asked_after_training(ray_engine: RayEngine) -> None:
    before, items = sampled(ray_engine), training(ray_engine)
    learn(ray_engine, items, lr=0.01)
    after = sampled(ray_engine)

    with ray_engine.untrained() as untrained:
        assert dict(untrained.sample(requests(ray_engine))) == before

    assert sampled(ray_engine) == after != before


def test_an_exported_model_is_the_one_that_learned(
    ray_engine: RayEngine, model_config: ModelConfig, tmp_path: Path
) -> None:
    learn(ray_engine, training(ray_engine))

    ray_engine.export_hf(tmp_path / "model")

    assert LocalEngine.open(replace(model_config, path=str(tmp_path / "model"))).digest == ray_engine.digest


def test_a_sampler_that_dies_half_way_is_replaced_and_changes_no_bit(
    ray_engine: RayEngine, ray_notes: list[str]
) -> None:
    learn(ray_engine, training(ray_engine))
    undisturbed = list(ray_engine.sample(requests(ray_engine)))

    stream = ray_engine.sample(requests(ray_engine))
    begun = [next(stream) for _ in range(3)]
    ray_engine._samplers.workers[1].kill()

    assert [*begun, *stream] == undisturbed
    assert [note.split(" died")[0] for note in ray_notes] == ["sampler 2 of 2"]
    learn(ray_engine, training(ray_engine))
    assert {sample.version for samples in sampled(ray_engine).values() for sample in samples} == {2}


def test_a_sampler_that_dies_between_calls_is_replaced_by_one_with_the_newest_weights(
    ray_engine: RayEngine, ray_notes: list[str]
) -> None:
    learn(ray_engine, training(ray_engine))
    items, before = training(ray_engine), sampled(ray_engine)
    ray_engine._samplers.workers[0].kill()
    assert sampled(ray_engine) == before
    ray_engine._samplers.workers[0].kill()
    learn(ray_engine, items)

    assert len(ray_notes) == 2
    fresh = training(ray_engine)
    assert max(abs(new - old) for item, found in zip(fresh, ray_engine.logprobs(fresh).result(), strict=True)
               for new, old in zip(found, item.old_logprobs, strict=True)) < 1e-4  # fmt: skip


@pytest.fixture
def broadcasting(ray_engine: RayEngine) -> Iterator[RayEngine]:
    """The same engine, whose weights do not go through the object store."""
    stored = ray_engine._ray
    ray_engine._ray = replace(stored, transfer="broadcast")
    yield ray_engine
    ray_engine._ray = stored


def test_weights_that_are_broadcast_are_those_that_the_object_store_hands_on(
    broadcasting: RayEngine, ray_notes: list[str], tmp_path: Path
) -> None:
    broadcasting.save(tmp_path / "beginning")
    items, found = training(broadcasting), []

    for transfer in ("broadcast", "store"):
        broadcasting._ray = replace(broadcasting._ray, transfer=transfer)
        broadcasting.load(tmp_path / "beginning")
        for _ in range(2):
            learn(broadcasting, items, lr=0.01)
        found.append((sampled(broadcasting), broadcasting.digest, broadcasting.version))

    assert found[0] == found[1]
    assert {sample.version for samples in found[0][0].values() for sample in samples} == {2}
    assert not ray_notes


def test_a_sampler_that_dies_during_a_broadcast_is_replaced_and_all_get_it(
    broadcasting: RayEngine, ray_notes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found alive, and dies before it can take what is handed over: the other one is left waiting for it."""
    items = training(broadcasting)
    hand_over, doomed = _Broadcast.to, [broadcasting._samplers.workers[1]]

    def late(self: _Broadcast, workers: Any, version: int) -> Any:
        if doomed and doomed[0] in workers:
            doomed.pop().kill()
        return hand_over(self, workers, version)

    monkeypatch.setattr(_Broadcast, "to", late)
    broadcasting._ray = replace(broadcasting._ray, answer_seconds=12)
    learn(broadcasting, items)

    assert [note.split(" died")[0] for note in ray_notes] == ["sampler 2 of 2"]
    fresh = training(broadcasting)
    assert max(abs(new - old) for item, found in zip(fresh, broadcasting.logprobs(fresh).result(), strict=True)
               for new, old in zip(found, item.old_logprobs, strict=True)) < 1e-4  # fmt: skip


def test_a_learner_that_hangs_or_dies_ends_the_update_and_is_named(cluster: Cluster, model_config: ModelConfig) -> None:
    with opened(cluster, model_config, [], learners=2) as engine:
        items = training(engine)
        learn(engine, items)
        process = engine._learners[1].call(LearnerProcess.process).result(60)
        engine._ray = replace(engine._ray, answer_seconds=5)

        os.kill(process, signal.SIGSTOP)
        with pytest.raises(WorkerLostError, match="learner 2 of 2 gave no answer for 5 s"):
            engine.forward_backward(items, Loss(100.0)).result()
        os.kill(process, signal.SIGKILL)
        with pytest.raises(WorkerLostError, match="learner 2 of 2 died"):
            engine.forward_backward(items, Loss(100.0)).result()


def test_with_adapters_and_recomputed_layers_it_learns_what_one_process_learns(
    cluster: Cluster, model_config: ModelConfig, tmp_path: Path
) -> None:
    config = replace(model_config, lora=LoraConfig(rank=4), recompute=True)
    local = LocalEngine.open(config)
    with opened(cluster, config, [], learners=2) as engine:
        items = training(local)
        for _ in range(2):
            learn(engine, items, lr=0.01)
            learn(local, items, lr=0.01)

        ours, theirs = weights(engine, tmp_path / "ray"), weights(local, tmp_path / "local")
        assert all("lora" in name for name in ours)
        assert furthest(ours, theirs) < 1e-4
        assert training(engine)[0].completion == training(local)[0].completion
        engine.export_hf(tmp_path / "model")
        exported = LocalEngine.open(replace(model_config, path=str(tmp_path / "model")))
        assert exported.logprobs(items[:2]).result()[0] == pytest.approx(
            engine.logprobs(items[:2]).result()[0], abs=1e-4
        )


def test_a_model_that_is_not_there_is_said_in_one_line(cluster: Cluster, model_config: ModelConfig) -> None:
    missing = replace(model_config, path="/nowhere/model")

    with pytest.raises(ModelError, match=r"model\.path '/nowhere/model' does not exist"), opened(cluster, missing, []):
        pass


def test_moments_of_the_optimizer_are_those_of_one_process(
    ray_engine: RayEngine, model_config: ModelConfig, tmp_path: Path
) -> None:
    local = LocalEngine.open(model_config)
    items = training(local)
    for engine in (ray_engine, local):
        learn(engine, items)
        engine.save(tmp_path / type(engine).__name__)

    ours, theirs = (whole(tmp_path / name, "optimizer") for name in ("RayEngine", "LocalEngine"))
    assert furthest(ours, theirs) < 1e-4
    assert {name.split("/")[0] for name in ours} == {"step", "exp_avg", "exp_avg_sq"}
