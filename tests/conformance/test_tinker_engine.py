"""What `TinkerEngine` promises beyond `Engine`: that it does what one process does, and what happens when a service fails."""

import json
import math
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gasp_rl.config import LoraConfig, ModelConfig, TinkerConfig
from gasp_rl.errors import ConfigError, EngineError, ModelError, ServiceLostError
from gasp_rl.policy.engine import (
    ELSEWHERE,
    Engine,
    Loss,
    OptimParams,
    Sample,
    SampleRequest,
    SamplingParams,
    Stop,
    TrainItem,
)
from gasp_rl.policy.models import open_model
from gasp_rl.policy.saved import read_state
from gasp_rl.policy.tinker_engine import TinkerEngine

pytestmark = [pytest.mark.tinker, pytest.mark.filterwarnings("ignore")]  # the warnings are the SDK's

TEXTS = ["what is it", "a", "tell me more about that", "a b c", "no", "and then there was a fox"]


@pytest.fixture
def engine(tinker_service: Any) -> Iterator[TinkerEngine]:
    with closing(tinker_service.open()) as opened:
        yield opened


def requests(engine: Engine, params: SamplingParams, n: int = 4) -> list[SampleRequest]:
    return [SampleRequest(engine.tokenizer.encode(text), n, params, seed) for seed, text in enumerate(TEXTS)]


def sampled(engine: Engine) -> list[tuple[int, list[Sample]]]:
    return list(engine.sample(requests(engine, SamplingParams(15))))


def training(engine: Engine) -> list[TrainItem]:
    """Recorded rollouts with advantages of both signs."""
    asked = requests(engine, SamplingParams(15))
    return [
        TrainItem(asked[index].prompt, sample.tokens, (-1.0) ** place * (1 + index), sample.logprobs, 1 + place)
        for index, samples in sorted(sampled(engine))
        for place, sample in enumerate(samples)
    ]


def learn(engine: Engine, items: list[TrainItem], loss: Loss = Loss(100.0)) -> float:  # noqa: B008 - a frozen value
    engine.forward_backward(items, loss).result()
    norm = engine.optim_step(OptimParams(0.01, weight_decay=0.01)).result().grad_norm
    engine.publish().result()
    return norm


def furthest(left: Engine, right: Engine, items: list[TrainItem]) -> float:
    """Between the log-probs of two engines."""
    pairs = zip(left.logprobs(items).result(), right.logprobs(items).result(), strict=True)
    return max(abs(a - b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True))


def shifted(items: list[TrainItem]) -> list[TrainItem]:
    """Off-policy: ratios on both sides of any clip."""
    return [
        replace(item, old_logprobs=tuple(p + 0.5 * math.cos(place + t) for t, p in enumerate(item.old_logprobs)))
        for place, item in enumerate(items)
    ]


@pytest.mark.parametrize("truncate", [0.0, 1.1], ids=["clipped", "truncated"])
def test_three_updates_give_what_one_process_finds_clip_and_all(
    tinker_service: Any, engine: TinkerEngine, truncate: float
) -> None:
    local = tinker_service.alike()
    items, loss = shifted(training(local)), Loss(100.0, clip_high=0.28, truncate=truncate)
    before = tinker_service.alike()

    for _ in range(3):
        ours = engine.forward_backward(items, loss).result()
        theirs = local.forward_backward(items, loss).result()
        assert ours.clip_fraction == pytest.approx(theirs.clip_fraction)
        assert ours.clip_fraction > 0.05
        norms = [one.optim_step(OptimParams(0.01, weight_decay=0.01)).result().grad_norm for one in (engine, local)]
        assert norms[0] == pytest.approx(norms[1], rel=1e-4)

    assert furthest(engine, local, items) < 1e-4
    assert furthest(before, local, items) > 1e-2  # or there was nothing to agree on


def test_a_service_that_takes_means_of_losses_gives_the_same_update(tinker_service: Any) -> None:
    local = tinker_service.alike()
    items = shifted(training(local))

    with other(tinker_service, sums="means"), closing(tinker_service.open(sums="means")) as engine:
        for _ in range(2):
            engine.forward_backward(items[:5], Loss(100.0)).result()
            engine.forward_backward(items[5:], Loss(100.0)).result()
            local.forward_backward(items, Loss(100.0)).result()
            norms = [one.optim_step(OptimParams(0.01)).result().grad_norm for one in (engine, local)]
            assert norms[0] == pytest.approx(norms[1], rel=1e-4)

        assert furthest(engine, local, items) < 1e-4


def test_the_update_is_the_same_however_the_items_are_cut(tinker_service: Any) -> None:
    found, norms = [], []
    with closing(tinker_service.open()) as whole:
        items = training(whole)
        for cut in ([items], [[item] for item in items], [items[12:], items[:12]]):
            with closing(tinker_service.open()) as engine:
                for part in cut:
                    engine.forward_backward(part, Loss(100.0)).result()
                norms.append(engine.optim_step(OptimParams(0.01, eps=1e-3)).result().grad_norm)
                found.append(engine.logprobs(items).result())

    assert norms == pytest.approx([norms[0]] * 3, rel=1e-5)
    for other in found[1:]:
        assert all(a == pytest.approx(b, abs=1e-5) for a, b in zip(found[0], other, strict=True))


def test_the_mean_ratio_is_one_right_after_publishing(engine: TinkerEngine) -> None:
    learn(engine, training(engine))
    items = training(engine)

    learned = engine.logprobs(items).result()

    ratios = [
        math.exp(new - old)
        for item, found in zip(items, learned, strict=True)
        for old, new in zip(item.old_logprobs, found, strict=True)
    ]
    assert sum(ratios) / len(ratios) == pytest.approx(1.0, abs=1e-6)
    assert max(abs(ratio - 1) for ratio in ratios) < 1e-4


def test_only_the_optimizer_step_moves_and_clears(engine: TinkerEngine) -> None:
    items, before = training(engine), engine.logprobs(training(engine)).result()
    digest = engine.digest

    engine.forward_backward(items, Loss(1.0)).result()
    assert engine.logprobs(items).result() == before
    assert engine.digest == digest
    assert engine.optim_step(OptimParams(0.01)).result().grad_norm > 0
    after = engine.logprobs(items).result()
    assert after != before
    assert engine.digest != digest
    assert engine.optim_step(OptimParams(0.01)).result().grad_norm == 0
    assert engine.logprobs(items).result() == after


def test_a_step_with_a_number_that_is_not_finite_is_not_taken_and_forgotten(engine: TinkerEngine) -> None:
    items, before = training(engine), engine.logprobs(training(engine)).result()

    engine.forward_backward(items[1:], Loss(1.0)).result()
    engine.forward_backward([replace(items[0], advantage=math.inf)], Loss(1.0)).result()

    assert engine.optim_step(OptimParams(0.01)).result().skipped
    assert engine.logprobs(items).result() == before
    engine.forward_backward(items, Loss(1.0)).result()
    assert not engine.optim_step(OptimParams(0.01)).result().skipped


def test_samples_come_in_the_order_of_requests_from_the_weights_last_published(engine: TinkerEngine) -> None:
    items, before = training(engine), sampled(engine)
    assert [index for index, _ in before] == list(range(len(TEXTS)))

    engine.forward_backward(items, Loss(1.0)).result()
    engine.optim_step(OptimParams(0.05)).result()
    assert sampled(engine) == before
    stream = engine.sample(requests(engine, SamplingParams(15)))
    first = next(stream)
    engine.publish().result()

    assert [first, *stream] == before
    assert [[s.tokens for s in samples] for _, samples in sampled(engine)] != [
        [s.tokens for s in samples] for _, samples in before
    ]


def test_a_checkpoint_goes_on_in_another_session(tinker_service: Any, engine: TinkerEngine, tmp_path: Path) -> None:
    learn(engine, training(engine))
    engine.save(tmp_path / "checkpoint")
    items = training(engine)
    learn(engine, items)

    with closing(tinker_service.open()) as resumed:
        resumed.load(tmp_path / "checkpoint")
        assert resumed.version == 1
        learn(resumed, items)

        assert (resumed.version, resumed.digest) == (engine.version, engine.digest)
        assert sampled(resumed) == sampled(engine)
        assert resumed.logprobs(items).result() == engine.logprobs(items).result()


def test_saving_asks_for_weights_that_are_published(engine: TinkerEngine, tmp_path: Path) -> None:
    engine.forward_backward(training(engine), Loss(1.0)).result()
    engine.optim_step(OptimParams(0.01)).result()

    with pytest.raises(EngineError, match="publish first"):
        engine.save(tmp_path / "checkpoint")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_cannot_be_had_changes_nothing_and_is_named(engine: TinkerEngine, tmp_path: Path) -> None:
    learn(engine, training(engine))
    engine.save(tmp_path / "checkpoint")
    file = tmp_path / "checkpoint" / ELSEWHERE
    whole, before = file.read_text(), sampled(engine)

    with pytest.raises(EngineError, match="missing cannot be read"):
        engine.load(tmp_path / "missing")
    for broken, why in (
        (whole[:20], "cannot be read"),
        (whole.replace('"rank": 4', '"rank": 8'), "another model: letters with adapters of rank 8"),
        (whole.replace("/weights/", "/weights/gone-"), "checkpoint .* cannot be read: .*not found"),
    ):
        file.write_text(broken)
        with pytest.raises(EngineError, match=why):
            engine.load(tmp_path / "checkpoint")

    assert sampled(engine) == before


def test_what_stands_for_weights_elsewhere_is_not_taken_for_them(engine: TinkerEngine, tmp_path: Path) -> None:
    engine.save(tmp_path / "checkpoint")
    engine.export_hf(tmp_path / "model")

    with pytest.raises(EngineError, match="only the engine tinker"):
        read_state(tmp_path / "checkpoint", {})
    with pytest.raises(ModelError, match="a Tinker service keeps"):
        open_model(str(tmp_path / "model"))
    assert json.loads((tmp_path / "model" / ELSEWHERE).read_text())["path"].startswith("tinker://")


def test_the_untrained_model_can_be_asked_after_training(engine: TinkerEngine) -> None:
    before = sampled(engine)
    learn(engine, training(engine))

    with engine.untrained() as untrained:
        found = list(untrained.sample(requests(engine, SamplingParams(15))))

    assert [[s.tokens for s in samples] for _, samples in found] == [
        [s.tokens for s in samples] for _, samples in before
    ]
    assert sampled(engine) != before


def test_stop_strings_hold_where_the_service_does_not_know_them(tinker_service: Any, engine: TinkerEngine) -> None:
    asked = requests(engine, SamplingParams(30, stop=("ab", "c", ".\n")))

    def endings() -> list[list[tuple[tuple[int, ...], Stop]]]:
        return [[(s.tokens, s.stop) for s in samples] for _, samples in engine.sample(asked)]

    with other(tinker_service, ignores_stops=True):
        found = endings()

    assert found == endings()
    assert {stop for samples in found for _, stop in samples} >= {Stop.STRING, Stop.EOS}


def test_a_service_that_hangs_or_dies_is_said_to_be_gone(
    tinker_service: Any, serve_tinker: Callable[..., Any], tmp_path: Path
) -> None:
    server = serve_tinker(model=tinker_service.model.path, name="letters", states=tmp_path, context=64)
    with closing(replace(tinker_service, url=server.url).open()) as engine:
        items = training(engine)
        engine._service._config = replace(engine._service._config, silence_seconds=2)
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(ServiceLostError, match=r"is gone \(timed out\), asked for: samples of request 1 of 6"):
            sampled(engine)

        server.process.kill()
        server.process.wait()
        with pytest.raises(ServiceLostError, match=r"is gone \(.*refused.*\), asked for: log-probs"):
            engine.forward_backward(items, Loss(1.0))


@pytest.mark.parametrize("stuck", ["asample", "optim_step", "save_weights_for_sampler"])
def test_a_deadline_ends_what_a_service_never_answers(tinker_service: Any, engine: TinkerEngine, stuck: str) -> None:
    items = training(engine)
    engine._service._config = replace(engine._service._config, answer_seconds=3)

    def everything() -> None:
        learn(engine, items)
        sampled(engine)

    late = r"gave no answer to: .*, for 3 s \(--tinker.answer-seconds\)"
    with other(tinker_service, stalls=stuck), pytest.raises(ServiceLostError, match=late):
        everything()


@contextmanager
def other(service: Any, **options: object) -> Iterator[None]:
    """Another kind of server for a while."""
    usual = {"sums": "tokens", "ignores_stops": False, "stalls": "", "key": "", "context": 64}
    post(f"{service.url}/api/v1/become", options)
    try:
        yield
    finally:
        post(f"{service.url}/api/v1/become", {name: usual[name] for name in options})


def post(url: str, content: dict[str, object]) -> None:
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30):
        pass


def test_nobody_there_is_said_at_once(tinker_service: Any) -> None:
    start = time.monotonic()

    with pytest.raises(
        ServiceLostError, match=r"no Tinker service at http://127.0.0.1:9 \(.*refused.*--tinker.address"
    ):
        replace(tinker_service, url="http://127.0.0.1:9").open()

    assert time.monotonic() - start < 30


def test_a_model_that_is_not_served_is_named_beside_those_that_are(tinker_service: Any) -> None:
    with pytest.raises(ConfigError, match=r"does not serve 'words' but other, letters: .*--tinker\.model"):
        tinker_service.open(model="words")


def test_a_service_that_does_not_tell_its_context_is_asked_of_the_user(tinker_service: Any) -> None:
    with other(tinker_service, context=0):
        with pytest.raises(ConfigError, match=r"--tinker\.context"):
            tinker_service.open()
        with closing(tinker_service.open(context=32)) as engine:
            assert engine.context == 32


def test_keys_are_asked_for_checked_and_never_sent_in_the_clear(
    tinker_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TINKER_BASE_URL", raising=False)
    monkeypatch.delenv("TINKER_API_KEY", raising=False)

    with other(tinker_service, key="tml-secret"):
        with pytest.raises(EngineError, match="refuses the key in TINKER_API_KEY"):
            tinker_service.open()
        monkeypatch.setenv("TINKER_API_KEY", "tml-secret")
        with closing(tinker_service.open()) as engine:
            assert engine.version == 0
    with pytest.raises(ConfigError, match="would travel unencrypted"):
        replace(tinker_service, url="http://192.0.2.1:8000").open()
    monkeypatch.setenv("TINKER_API_KEY", "secret")
    with pytest.raises(ConfigError, match="begin with tml-") as caught:
        tinker_service.open()
    assert "secret" not in str(caught.value)
    monkeypatch.delenv("TINKER_API_KEY")
    with pytest.raises(ConfigError, match="needs the key of the hosted service in TINKER_API_KEY"):
        replace(tinker_service, url="").open()


@contextmanager
def answering(answers: dict[str, object]) -> Iterator[str]:
    """A server that says the same to whatever ends so, and HTTP 404 to the rest."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            found = next((answer for end, answer in answers.items() if self.path.endswith(end)), None)
            data = json.dumps(found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_something_else_that_listens_there_is_not_taken_for_a_service(tinker_service: Any) -> None:
    with answering({}) as url, pytest.raises(ServiceLostError, match="something else answers there: HTTP 404"):
        replace(tinker_service, url=url).open()


@pytest.mark.parametrize(
    "known",
    [
        {"healthz": {"status": "ok"}},
        {"healthz": {"status": "ok"}, "client/config": {}},
        {"healthz": {"status": "ok"}, "client/config": {}, "capabilities": {"models": []}},
        {"healthz": {}, "client/config": {}, "capabilities": {"supported_models": [{"model_name": "letters"}]}},
    ],
    ids=["older", "without capabilities", "other capabilities", "without sessions"],
)
def test_a_service_of_another_version_is_refused_in_one_line(tinker_service: Any, known: dict[str, object]) -> None:
    with answering(known) as url, pytest.raises(EngineError, match=r"speaks as version 0\.24") as caught:
        replace(tinker_service, url=url).open(context=64)

    assert "\n" not in str(caught.value)


def test_an_sdk_of_another_version_is_refused(tinker_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gasp_rl.policy.tinker_service.SDK", "0.9")

    with pytest.raises(ConfigError, match=r"0\.24\.\d+ is installed: pip install 'gasp-rl\[tinker\]'"):
        tinker_service.open()


def test_a_directory_with_a_tokenizer_alone_is_enough(tinker_service: Any, tmp_path: Path) -> None:
    for file in Path(tinker_service.model.path).iterdir():
        if not file.name.endswith(".safetensors"):
            (tmp_path / file.name).write_bytes(file.read_bytes())

    with closing(
        TinkerEngine(ModelConfig(str(tmp_path), lora=LoraConfig(rank=2)), TinkerConfig(tinker_service.url, "letters"))
    ) as engine:
        assert engine.tokenizer.decode(engine.tokenizer.encode("a fox")) == "a fox"
        assert engine.tokenizer.all_eos == {1}
