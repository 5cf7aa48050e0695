"""The promises of `Engine` that need weights."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from gasp_rl.config import ModelConfig
from gasp_rl.errors import EngineError
from gasp_rl.policy.engine import Loss, OptimParams, Sample, SampleRequest, SamplingParams, Stop, TrainItem
from gasp_rl.policy.local import LocalEngine
from gasp_rl.policy.lora import merged, named_weights

MakeEngine: TypeAlias = Callable[..., LocalEngine]

TEXTS = ["what is it", "a", "tell me more about that", "a b c", "no", "and then there was a fox"]


def encoded(engine: LocalEngine) -> list[tuple[int, ...]]:
    return [engine.tokenizer.encode(text) for text in TEXTS]


def sampled(engine: LocalEngine, params: SamplingParams, n: int = 4) -> dict[int, list[Sample]]:
    asked = [SampleRequest(prompt, n, params, seed) for seed, prompt in enumerate(encoded(engine))]
    return dict(engine.sample(asked))


def training(engine: LocalEngine, temperature: float = 1.0) -> list[TrainItem]:
    prompts = encoded(engine)
    answers = sampled(engine, SamplingParams(15, temperature))
    return [
        TrainItem(prompts[index], sample.tokens, math.sin(7 * index + place), sample.logprobs, 1 + place)
        for index in sorted(answers)
        for place, sample in enumerate(answers[index])
    ]


def gradients(engine: LocalEngine) -> Tensor:
    return torch.cat([p.grad.flatten() for p in engine.model.parameters() if p.grad is not None])


def distance(left: Tensor, right: Tensor) -> float:
    """Relative to their size."""
    return float((left - right).norm() / left.norm())


def weights(engine: LocalEngine) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in engine.model.parameters()]


def merged_weights(engine: LocalEngine) -> list[Tensor]:
    return [weight for _, weight in named_weights(merged(engine.model))]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def learn(engine: LocalEngine, items: list[TrainItem]) -> None:
    engine.forward_backward(items, Loss(10.0)).result()
    engine.optim_step(OptimParams(0.01)).result()
    engine.publish().result()


@pytest.mark.parametrize("token_budget", [1, 60, 150, 100_000])
def test_the_gradient_does_not_depend_on_the_micro_batch_size(make_engine: MakeEngine, token_budget: int) -> None:
    whole, cut = make_engine(), make_engine(token_budget=token_budget)
    items = training(whole)

    whole.forward_backward(items, Loss(10.0)).result()
    cut.forward_backward(items, Loss(10.0)).result()

    assert distance(gradients(whole), gradients(cut)) < 1e-5


def test_the_gradient_does_not_depend_on_how_items_are_split_over_calls(make_engine: MakeEngine) -> None:
    whole, split = make_engine(), make_engine()
    items = training(whole)

    whole.forward_backward(items, Loss(10.0)).result()
    for item in items:
        split.forward_backward([item], Loss(10.0)).result()

    assert distance(gradients(whole), gradients(split)) < 1e-5


def test_the_gradient_does_not_depend_on_the_chunks_of_the_vocabulary(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, chunked = make_engine(), make_engine()
    items = training(whole)

    whole.forward_backward(items, Loss(10.0)).result()
    monkeypatch.setattr("gasp_rl.policy.learner.LOGITS", 100)
    chunked.forward_backward(items, Loss(10.0)).result()

    assert distance(gradients(whole), gradients(chunked)) < 1e-5


def test_the_gradient_is_that_of_a_plain_loop_over_items(model_engine: LocalEngine) -> None:
    items, loss = training(model_engine, temperature=0.7), Loss(10.0, temperature=0.7)
    model: Any = model_engine.model

    total = torch.zeros(())
    for item in items:
        logits_TV = model(input_ids=torch.tensor([[*item.prompt, *item.completion]])).logits[0]
        for place, (token, old) in enumerate(zip(item.completion, item.old_logprobs, strict=True)):
            logits_V = logits_TV[len(item.prompt) + place - 1] / 0.7
            ratio = (logits_V.log_softmax(-1)[token] - old).exp()
            bounded = ratio.clamp(0.8, 1.2)
            total = total - item.weight * torch.minimum(ratio * item.advantage, bounded * item.advantage)
    (total / 10.0).backward()  # type: ignore[no-untyped-call]
    plain = gradients(model_engine)

    model.zero_grad()
    stats = model_engine.forward_backward(items, loss).result()
    assert stats.loss == pytest.approx(total.item() / 10.0, rel=1e-4, abs=1e-5)
    assert distance(gradients(model_engine), plain) < 1e-5


@pytest.mark.parametrize("truncate", [0.5, 1.0, 3.0])
def test_a_truncated_weight_scales_the_gradient_of_log_p(model_engine: LocalEngine, truncate: float) -> None:
    (_, item, *_), loss = training(model_engine), Loss(1.0, truncate=truncate)
    item = replace(item, completion=item.completion[:1], old_logprobs=(item.old_logprobs[0] - math.log(2.0),))

    model: Any = model_engine.model
    logits_V = model(input_ids=torch.tensor([item.prompt])).logits[0, -1]
    (-item.weight * min(2.0, truncate) * item.advantage * logits_V.log_softmax(-1)[item.completion[0]]).backward()
    plain = gradients(model_engine)

    model.zero_grad()
    model_engine.forward_backward([item], loss).result()
    assert distance(gradients(model_engine), plain) < 1e-4


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_log_probs_of_samples_are_those_of_the_whole_text(make_engine: MakeEngine, temperature: float) -> None:
    engine = make_engine(batch_rows=5)
    items = training(engine, temperature)

    learned = engine.logprobs(items, temperature).result()

    for item, logprobs in zip(items, learned, strict=True):
        assert item.old_logprobs == pytest.approx(logprobs, abs=1e-4)


def test_the_ratio_is_one_right_after_publishing(model_engine: LocalEngine) -> None:
    learn(model_engine, training(model_engine))

    stats = model_engine.forward_backward(training(model_engine), Loss(1.0)).result()

    assert stats.log_ratio_max < 1e-4
    assert stats.clip_fraction == 0.0


@pytest.mark.parametrize("batch_rows", [1, 3, 8, 512])
def test_samples_do_not_depend_on_what_they_are_batched_with(make_engine: MakeEngine, batch_rows: int) -> None:
    together = sampled(make_engine(), SamplingParams(20, stop=("ab",)), n=7)

    engine = make_engine(batch_rows=batch_rows, batch_tokens=200)
    apart = {
        index: next(engine.sample([SampleRequest(prompt, 7, SamplingParams(20, stop=("ab",)), index)]))[1]
        for index, prompt in enumerate(encoded(engine))
    }

    assert {i: [(s.tokens, s.stop) for s in ss] for i, ss in together.items()} == {
        i: [(s.tokens, s.stop) for s in ss] for i, ss in apart.items()
    }


def test_fewer_samples_are_the_first_of_more(model_engine: LocalEngine) -> None:
    few, many = sampled(model_engine, SamplingParams(10), n=2), sampled(model_engine, SamplingParams(10), n=9)

    for index, samples in few.items():
        assert [s.tokens for s in samples] == [s.tokens for s in many[index][:2]]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_tokens_are_drawn_from_the_softmax(model_engine: LocalEngine, temperature: float) -> None:
    prompt, model = model_engine.tokenizer.encode("what"), model_engine.model
    with torch.no_grad():
        p_V = (model(input_ids=torch.tensor([prompt])).logits[0, -1] / temperature).softmax(-1).double()

    asked = [SampleRequest(prompt, 500, SamplingParams(1, temperature), seed) for seed in range(8)]
    tokens = [sample.tokens[0] for _, samples in model_engine.sample(asked) for sample in samples]

    common = p_V * len(tokens) >= 5
    seen = torch.bincount(torch.tensor(tokens), minlength=len(p_V)).double()
    observed = [*seen[common].tolist(), seen[~common].sum().item()]
    expected = [*(p_V[common] * len(tokens)).tolist(), (p_V[~common].sum() * len(tokens)).item()]
    kept = [i for i, count in enumerate(expected) if count > 0]
    assert chisquare([observed[i] for i in kept], [expected[i] for i in kept], sum_check=False).pvalue > 1e-3


def test_greedy_is_what_generate_finds(model_engine: LocalEngine) -> None:
    model: Any = model_engine.model

    answers = sampled(model_engine, SamplingParams(25, temperature=0.0), n=2)

    for index, prompt in enumerate(encoded(model_engine)):
        ids = torch.tensor([prompt])
        with torch.no_grad():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=25, do_sample=False,
                                 eos_token_id=1, pad_token_id=0)  # fmt: skip
        assert {sample.tokens for sample in answers[index]} == {tuple(out[0, len(prompt) :].tolist())}
        item = TrainItem(prompt, answers[index][0].tokens, 1.0, answers[index][0].logprobs)
        assert model_engine.logprobs([item]).result()[0] == pytest.approx(item.old_logprobs, abs=1e-4)


def test_samples_come_from_the_weights_last_published(model_engine: LocalEngine) -> None:
    before = sampled(model_engine, SamplingParams(10))

    model_engine.forward_backward(training(model_engine), Loss(1.0)).result()
    model_engine.optim_step(OptimParams(0.05)).result()

    assert sampled(model_engine, SamplingParams(10)) == before
    model_engine.publish().result()
    assert [s.tokens for s in sampled(model_engine, SamplingParams(10))[0]] != [s.tokens for s in before[0]]


def test_an_answer_under_way_keeps_the_weights_it_began_with(make_engine: MakeEngine) -> None:
    engine = make_engine(batch_rows=2)
    asked = [SampleRequest(prompt, 4, SamplingParams(10), seed) for seed, prompt in enumerate(encoded(engine))]
    items, undisturbed = training(engine), list(engine.sample(asked))

    stream = engine.sample(asked)
    first = next(stream)
    learn(engine, items)

    assert [first, *stream] == undisturbed


def test_only_the_optimizer_step_moves_and_clears(model_engine: LocalEngine) -> None:
    items, before = training(model_engine), weights(model_engine)

    model_engine.forward_backward(items, Loss(1.0)).result()
    assert same(weights(model_engine), before)
    assert model_engine.optim_step(OptimParams(0.01)).result().grad_norm > 0
    assert not same(weights(model_engine), before)
    assert model_engine.optim_step(OptimParams(0.01)).result().grad_norm == 0


def test_a_gradient_that_is_not_finite_is_skipped_and_forgotten(model_engine: LocalEngine) -> None:
    items, before = training(model_engine), weights(model_engine)
    broken = TrainItem(items[0].prompt, items[0].completion, math.inf, items[0].old_logprobs)

    model_engine.forward_backward([broken], Loss(1.0)).result()
    stats = model_engine.optim_step(OptimParams(0.01)).result()

    assert stats.skipped
    assert same(weights(model_engine), before)
    model_engine.forward_backward(items, Loss(1.0)).result()
    assert not model_engine.optim_step(OptimParams(0.01)).result().skipped


def test_clipping_bounds_the_step_and_the_norm_is_told_from_before(make_engine: MakeEngine) -> None:
    free, clipped = make_engine(), make_engine()
    items, before = training(free), torch.cat([weight.flatten() for weight in weights(free)])

    norms, moves = [], []
    for engine, bound in ((free, 1e9), (clipped, 0.1)):
        engine.forward_backward(items, Loss(1.0)).result()
        # A large eps makes Adam's first step proportional to the gradient.
        norms.append(engine.optim_step(OptimParams(1e3, eps=1e3, grad_clip=bound)).result().grad_norm)
        moves.append((torch.cat([weight.flatten() for weight in weights(engine)]) - before).norm().item())

    assert norms[0] == norms[1] > 0.1
    assert moves[1] == pytest.approx(0.1, rel=0.01)
    assert moves[1] < moves[0]


def test_the_same_calls_give_the_same_bits(make_engine: MakeEngine) -> None:
    first, second = make_engine(), make_engine()

    for engine in (first, second):
        for _ in range(3):
            learn(engine, training(engine))

    assert same(weights(first), weights(second))
    assert sampled(first, SamplingParams(10)) == sampled(second, SamplingParams(10))


def test_a_loaded_engine_goes_on_bit_for_bit(make_engine: MakeEngine, tmp_path: Path) -> None:
    straight = make_engine()
    learn(straight, training(straight))
    learn(straight, training(straight))
    straight.save(tmp_path / "checkpoint")
    resumed = make_engine()
    resumed.load(tmp_path / "checkpoint")

    assert resumed.version == straight.version == 2
    assert same(weights(resumed), weights(straight))
    for engine in (straight, resumed):
        learn(engine, training(engine))
    assert same(weights(resumed), weights(straight))


def test_saving_twice_replaces_and_leaves_nothing_beside(model_engine: LocalEngine, tmp_path: Path) -> None:
    model_engine.save(tmp_path / "checkpoint")
    learn(model_engine, training(model_engine))
    model_engine.save(tmp_path / "checkpoint")

    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    kept = weights(model_engine)
    model_engine.load(tmp_path / "checkpoint")
    assert same(weights(model_engine), kept)


def test_saving_asks_for_weights_that_are_published(model_engine: LocalEngine, tmp_path: Path) -> None:
    model_engine.forward_backward(training(model_engine), Loss(1.0)).result()
    model_engine.optim_step(OptimParams(0.01)).result()

    with pytest.raises(EngineError, match="publish first"):
        model_engine.save(tmp_path / "checkpoint")
    assert list(tmp_path.iterdir()) == []


def test_a_broken_checkpoint_changes_nothing_and_is_named(model_engine: LocalEngine, tmp_path: Path) -> None:
    model_engine.save(tmp_path / "checkpoint")
    file = tmp_path / "checkpoint" / "optimizer-1-of-1.safetensors"
    file.write_bytes(file.read_bytes()[:4])
    before = weights(model_engine)

    with pytest.raises(EngineError, match="checkpoint"):
        model_engine.load(tmp_path / "checkpoint")
    with pytest.raises(EngineError, match="missing"):
        model_engine.load(tmp_path / "missing")
    assert same(weights(model_engine), before)


def test_what_is_rewarded_becomes_likely(model_engine: LocalEngine) -> None:
    """A bandit: one token after one prompt, rewarded if it is a vowel."""
    prompt = model_engine.tokenizer.encode("say ")
    vowels = set(model_engine.tokenizer.encode("aeiou"))

    def share() -> tuple[float, list[Sample]]:
        asked = [SampleRequest(prompt, 64, SamplingParams(1), model_engine.version)]
        samples = next(model_engine.sample(asked))[1]
        return sum(s.tokens[0] in vowels for s in samples) / 64, samples

    before, samples = share()
    for _ in range(12):
        rate, samples = share()
        items = [TrainItem(prompt, s.tokens, (s.tokens[0] in vowels) - rate, s.logprobs) for s in samples]
        model_engine.forward_backward(items, Loss(64.0)).result()
        model_engine.optim_step(OptimParams(0.01)).result()
        model_engine.publish().result()

    assert share()[0] > max(0.9, before)


def test_text_that_fills_the_context_is_cut_off_there(model_engine: LocalEngine) -> None:
    prompt = tuple(2 + place % 20 for place in range(model_engine.context - 2))

    samples = next(model_engine.sample([SampleRequest(prompt, 9, SamplingParams(50), 0)]))[1]

    assert max(len(sample.tokens) for sample in samples) == 2
    assert {sample.stop for sample in samples} <= {Stop.LENGTH, Stop.EOS}
    items = [TrainItem(prompt, sample.tokens, 1.0, sample.logprobs) for sample in samples]
    assert model_engine.forward_backward(items, Loss(1.0)).result().log_ratio_max < 1e-4


def test_requests_that_cannot_be_met_are_refused_before_any_sampling(model_engine: LocalEngine) -> None:
    with pytest.raises(EngineError, match="from 1 to 63 tokens, got 64"):
        model_engine.sample([SampleRequest((5,) * model_engine.context, 1, SamplingParams(5), 0)])
    with pytest.raises(EngineError, match="got 0"):
        model_engine.sample([SampleRequest((), 1, SamplingParams(5), 0)])
    with pytest.raises(EngineError, match="max_tokens"):
        model_engine.sample([SampleRequest((5,), 1, SamplingParams(0), 0)])


def test_items_that_make_no_sense_are_refused(model_engine: LocalEngine) -> None:
    with pytest.raises(EngineError, match="old_logprobs"):
        model_engine.forward_backward([TrainItem((5,), (6, 7), 1.0, (-1.0,))], Loss(1.0))
    with pytest.raises(EngineError, match="empty prompt"):
        model_engine.forward_backward([TrainItem((), (6,), 1.0, (-1.0,))], Loss(1.0))


def test_an_exported_model_says_the_same(model_engine: LocalEngine, tmp_path: Path) -> None:
    learn(model_engine, training(model_engine))
    items = training(model_engine)

    model_engine.export_hf(tmp_path / "model")

    again = LocalEngine.open(ModelConfig(path=str(tmp_path / "model"), device="cpu", dtype="float32"))
    assert same([weight for _, weight in named_weights(again.model)], merged_weights(model_engine))
    assert again.tokenizer.encode("a fox") == model_engine.tokenizer.encode("a fox")
    for found, wanted in zip(again.logprobs(items).result(), model_engine.logprobs(items).result(), strict=True):
        assert found == pytest.approx(wanted, abs=1e-5)  # with adapters: added before instead of behind
