"""The promises of `Engine`, for every engine."""

import math
from contextlib import nullcontext
from pathlib import Path

import pytest

from gasp_rl.errors import EngineError
from gasp_rl.policy.engine import (
    Engine,
    Lack,
    Loss,
    OptimParams,
    Sample,
    SampleRequest,
    SamplingParams,
    StepStats,
    Stop,
    TrainItem,
)

REQUESTS = [("what is it", 3, 11), ("a", 9, 12), ("tell me more about that", 1, 13), ("a b c", 5, 14), ("no", 2, 15)]


def requests(engine: Engine, params: SamplingParams) -> list[SampleRequest]:
    return [SampleRequest(engine.tokenizer.encode(text), n, params, seed) for text, n, seed in REQUESTS]


def items(engine: Engine) -> list[TrainItem]:
    """Everything sampled for REQUESTS, with made-up advantages, weights and old log-probs."""
    asked = requests(engine, SamplingParams(12))
    pairs = [(asked[index].prompt, sample) for index, samples in engine.sample(asked) for sample in samples]
    return [
        TrainItem(
            prompt,
            sample.tokens,
            advantage=math.sin(3 * place),
            old_logprobs=tuple(p + 0.4 * math.cos(place + t) for t, p in enumerate(sample.logprobs)),
            weight=1 + place % 3,
        )
        for place, (prompt, sample) in enumerate(pairs)
    ]


def slow_loss(items: list[TrainItem], logprobs: list[list[float]], loss: Loss) -> StepStats:
    """The loss as its docstring says it, one token at a time."""
    total, tokens, surprise, largest, clipped = 0.0, 0, 0.0, 0.0, 0
    for item, new in zip(items, logprobs, strict=True):
        for old, now in zip(item.old_logprobs, new, strict=True):
            ratio = math.exp(now - old)
            if loss.truncate:
                total += item.weight * -min(ratio, loss.truncate) * item.advantage * now
                clipped += ratio > loss.truncate
            else:
                free = ratio * item.advantage
                bounded = min(max(ratio, 1 - loss.clip_low), 1 + loss.clip_high) * item.advantage
                total += item.weight * -min(free, bounded)
                clipped += bounded < free
            tokens += 1
            surprise -= now
            largest = max(largest, abs(now - old))
    return StepStats(total / loss.denominator, tokens, surprise / tokens, largest, clipped / tokens)


def test_each_request_is_answered_once_with_as_many_samples_as_asked(engine: Engine) -> None:
    answers = list(engine.sample(requests(engine, SamplingParams(10))))

    assert sorted(index for index, _ in answers) == list(range(len(REQUESTS)))
    assert all(len(samples) == REQUESTS[index][1] for index, samples in answers)


def test_a_request_for_no_samples_is_answered_with_none(engine: Engine) -> None:
    prompt = engine.tokenizer.encode("hello")

    answers = dict(engine.sample([SampleRequest(prompt, n, SamplingParams(4), 0) for n in (0, 2, 0)]))

    assert [len(answers[index]) for index in range(3)] == [0, 2, 0]


def test_no_requests_have_no_answers(engine: Engine) -> None:
    assert list(engine.sample([])) == []


def test_the_same_requests_get_the_same_answers_in_the_same_order(engine: Engine) -> None:
    first = list(engine.sample(requests(engine, SamplingParams(10))))
    second = list(engine.sample(requests(engine, SamplingParams(10))))

    assert first == second


def test_samples_of_a_request_differ_and_another_seed_gives_others(engine: Engine) -> None:
    prompt = engine.tokenizer.encode("hello")
    asked = [SampleRequest(prompt, 4, SamplingParams(20), seed) for seed in (1, 2)]

    answers = dict(engine.sample(asked))

    assert len({sample.tokens for sample in answers[0]}) == 4
    assert answers[0] != answers[1]


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_a_sample_ends_with_the_end_of_text_or_at_its_limit(engine: Engine, limit: int) -> None:
    asked = requests(engine, SamplingParams(limit))

    for index, samples in engine.sample(asked):
        room = min(limit, engine.context - len(asked[index].prompt))
        for sample in samples:
            assert len(sample.logprobs) == len(sample.tokens) <= room
            assert all(logprob <= 0 for logprob in sample.logprobs)
            assert engine.tokenizer.eos not in sample.tokens[:-1]
            match sample.stop:
                case Stop.EOS:
                    assert sample.tokens[-1] == engine.tokenizer.eos
                case Stop.LENGTH:
                    assert len(sample.tokens) == room
                    assert sample.tokens[-1] != engine.tokenizer.eos
                case Stop.STRING:
                    pytest.fail("there was no stop string")


def test_a_sample_ends_with_the_first_token_that_completes_a_stop_string(engine: Engine) -> None:
    stop = ("ab", "c", ".\n")

    samples = [s for _, samples in engine.sample(requests(engine, SamplingParams(30, stop=stop))) for s in samples]

    def holds(tokens: tuple[int, ...]) -> bool:
        return any(text in engine.tokenizer.decode(tokens) for text in stop)

    assert any(sample.stop is Stop.STRING for sample in samples)
    for sample in samples:
        assert holds(sample.tokens) == (sample.stop is Stop.STRING)
        assert not holds(sample.tokens[:-1])


def test_publishing_raises_the_version_by_one_and_samples_carry_it(engine: Engine) -> None:
    before = engine.version
    asked = requests(engine, SamplingParams(2))[:1]

    assert engine.publish().result() == engine.version == before + 1
    assert {sample.version for _, samples in engine.sample(asked) for sample in samples} == {before + 1}


@pytest.mark.parametrize("truncate", [0.0, 1.1], ids=["clipped", "truncated"])
def test_the_loss_is_what_its_docstring_says(engine: Engine, truncate: float) -> None:
    batch = items(engine)
    temperature = 1.0 if Lack.TEMPERATURE in engine.lacks else 0.8
    loss = Loss(denominator=37.0, clip_low=0.2, clip_high=0.28, truncate=truncate, temperature=temperature)

    got = engine.forward_backward(batch, loss).result()

    want = slow_loss(batch, engine.logprobs(batch, temperature).result(), loss)
    assert got.loss == pytest.approx(want.loss, rel=1e-4, abs=1e-6)
    assert got.tokens == want.tokens
    assert got.entropy == pytest.approx(want.entropy, rel=1e-4)
    assert got.log_ratio_max == pytest.approx(want.log_ratio_max, rel=1e-4, abs=1e-5)
    assert got.clip_fraction == pytest.approx(want.clip_fraction)
    assert 0 < got.clip_fraction < 1


def test_losses_of_parts_add_up_to_the_loss_of_the_whole(engine: Engine) -> None:
    batch, loss = items(engine), Loss(denominator=5.0)

    whole = engine.forward_backward(batch, loss).result()
    parts = [engine.forward_backward(part, loss).result() for part in (batch[:3], batch[3:4], batch[4:])]

    assert sum(part.loss for part in parts) == pytest.approx(whole.loss, rel=1e-4)
    assert sum(part.tokens for part in parts) == whole.tokens


def test_learning_from_nothing_is_allowed(engine: Engine) -> None:
    stats = engine.forward_backward([], Loss(1.0)).result()

    assert (stats.loss, stats.tokens) == (0.0, 0)
    assert engine.optim_step(OptimParams(1e-3)).result().grad_norm == 0.0


def test_saving_and_loading_brings_the_version_and_the_samples_back(engine: Engine, tmp_path: Path) -> None:
    engine.publish().result()
    asked = requests(engine, SamplingParams(10))
    saved = list(engine.sample(asked))
    engine.save(tmp_path / "checkpoint")

    engine.forward_backward(items(engine), Loss(1.0)).result()
    engine.optim_step(OptimParams(0.1)).result()
    engine.publish().result()
    engine.load(tmp_path / "checkpoint")

    assert list(engine.sample(asked)) == saved


def test_an_engine_without_other_temperatures_refuses_them(engine: Engine) -> None:
    batch = items(engine)[:2]
    refused = pytest.raises(EngineError, match="temperature") if Lack.TEMPERATURE in engine.lacks else nullcontext()

    with refused:
        engine.logprobs(batch, 0.5).result()
    with refused:
        engine.forward_backward(batch, Loss(1.0, temperature=0.5)).result()


def test_an_engine_exports_its_weights_or_says_that_it_cannot(engine: Engine, tmp_path: Path) -> None:
    refused = pytest.raises(EngineError, match="cannot export") if engine.digest == "scripted" else nullcontext()

    with refused:
        engine.export_hf(tmp_path / "model")

    exported = (tmp_path / "model" / "model.safetensors").exists()
    assert exported == (Lack.EXPORT not in engine.lacks)


def test_text_survives_encoding_and_decoding(engine: Engine) -> None:
    text = "the quick brown fox\njumps over. \n\n dogs "

    assert engine.tokenizer.decode(engine.tokenizer.encode(text)) == text
    assert engine.tokenizer.decode([*engine.tokenizer.encode(text), engine.tokenizer.eos]) == text


def test_a_sample_is_a_value() -> None:
    assert Sample((1,), (-0.5,), Stop.EOS, 0) == Sample((1,), (-0.5,), Stop.EOS, 0)
