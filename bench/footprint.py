"""Is the memory of Ray's learners and samplers foretold? What each process takes, beside what was reckoned from the shape.

    python bench/footprint.py [--learners 2] [--samplers 1] [--model micro] [--recompute] [--layers 12] [--hidden 512]

Without `--model` a Qwen2 is made from its configuration, with random weights and the embedded model's tokenizer. It samples, learns
and publishes as an iteration does. Nothing else may use Ray on
this machine meanwhile. Memory is what a process has of its own (RssAnon), looked at a hundred times a second, above
what it had before the model was opened. Two moments are told apart: opening, and all that follows.
"""

import random
import tempfile
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from transformers import Qwen2Config, Qwen2ForCausalLM

from gasp_rl.cluster import Cluster, Room
from gasp_rl.config import ModelConfig, RayConfig
from gasp_rl.policy.engine import Loss, OptimParams, SampleRequest, SamplingParams, TrainItem
from gasp_rl.policy.local import TOKEN_BUDGET
from gasp_rl.policy.memory import learner_needs, sampler_needs, shape_of
from gasp_rl.policy.models import MICRO, open_model
from gasp_rl.policy.needs import Setup
from gasp_rl.policy.ray_engine import LearnerProcess, RayEngine

MIB = 2**20
START_SECONDS = 300.0


@dataclass(frozen=True)
class Bench:
    learners: int = 2
    samplers: int = 1
    model: str = ""
    recompute: bool = False
    layers: int = 12
    hidden: int = 512
    inner: int = 2048
    vocabulary: int = 32_000
    prompt: int = 100
    new: int = 150
    prompts: int = 32
    each: int = 4
    batch_tokens: int = 32_768
    object_store_mb: int = 1024


def make(asked: Bench, folder: Path) -> str:
    if asked.model:
        return asked.model
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=asked.vocabulary, hidden_size=asked.hidden, intermediate_size=asked.inner,
        num_hidden_layers=asked.layers, num_attention_heads=8, num_key_value_heads=2, max_position_embeddings=1024,
        tie_word_embeddings=False,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    _, tokenizer = open_model(MICRO)
    tokenizer.inner.save_pretrained(folder)
    return str(folder)


def own(process: int) -> int:
    """Bytes that a process has to itself."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def processes(kind: str) -> list[int]:
    """Those of Ray that hold such an object."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cmdline").read_bytes().startswith(b"ray::" + kind.encode()):
                found.append(int(entry.name))
        except OSError:  # it has ended meanwhile
            continue
    return sorted(found)


class Watch:
    """The most that each process of these kinds has held since this was last asked."""

    def __init__(self, *kinds: str) -> None:
        self._kinds = kinds
        self._most: dict[tuple[str, int], int] = {}
        self._over = False
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over:
            for kind in self._kinds:
                for process in processes(kind):
                    held = self._most.get((kind, process), 0)
                    with suppress(OSError, StopIteration):  # it has ended meanwhile
                        self._most[kind, process] = max(held, own(process))
            time.sleep(0.01)

    def since(self) -> dict[tuple[str, int], int]:
        found, self._most = self._most, {}
        return found

    def stop(self) -> None:
        self._over = True
        self._thread.join()


def bare(cluster: Cluster, config: ModelConfig) -> int:
    """What a process holds that has imported all and opened nothing."""
    places = cluster.reserve([Room()], START_SECONDS)
    worker = places.start(0, "a learner", Room(), LearnerProcess, 0, 1)
    worker.call(LearnerProcess.place, config).result(START_SECONDS)
    found = own(worker.call(LearnerProcess.process).result(START_SECONDS))
    worker.kill()
    places.give_back()
    return found


def iterate(engine: RayEngine, asked: Bench) -> None:
    rng = random.Random(0)
    requests = [
        SampleRequest(
            tuple(rng.randrange(5, 200) for _ in range(asked.prompt)), asked.each, SamplingParams(asked.new), seed
        )
        for seed in range(asked.prompts)
    ]
    items = [
        TrainItem(requests[index].prompt, sample.tokens, 1.0, sample.logprobs)
        for index, samples in engine.sample(requests) for sample in samples
    ]  # fmt: skip
    engine.forward_backward(items, Loss(1000.0)).result()
    engine.optim_step(OptimParams(1e-5)).result()
    engine.publish().result()


def main() -> None:
    asked = tyro.cli(Bench)
    ray = RayConfig(learners=asked.learners, samplers=asked.samplers, object_store_mb=asked.object_store_mb)
    cpu, dtype = torch.device("cpu"), torch.float32
    with tempfile.TemporaryDirectory() as folder, closing(Cluster(ray)) as cluster:
        config = ModelConfig(
            path=make(asked, Path(folder)), device="cpu", dtype="float32", threads=1, recompute=asked.recompute,
            batch_tokens=asked.batch_tokens,
        )  # fmt: skip
        before = bare(cluster, config)
        watch = Watch("LearnerProcess", "SamplerProcess")
        with closing(RayEngine(cluster, config, ray, TOKEN_BUDGET)) as engine:
            opening = watch.since()
            for _ in range(2):
                iterate(engine, asked)
            most = watch.since()
        watch.stop()
        shape = shape_of(config.path)

    setup = Setup(config, TOKEN_BUDGET, asked.learners)
    needs = {
        "LearnerProcess": learner_needs(shape, setup, cpu, dtype), "SamplerProcess": sampler_needs(shape, config, cpu, dtype),
    }  # fmt: skip
    print(f"{shape.parameters:,} parameters, {asked.learners} learners, {asked.samplers} samplers, MiB above {before / MIB:.0f} of "
          f"a process that has opened nothing")  # fmt: skip
    print(f"{'':16} {'opening':>9} {'foretold':>9} {'after':>9} {'foretold':>9} {'ratio':>6}")
    for (kind, process), held in sorted((key, held) for key, held in most.items() if key in opening):
        reckoned = needs[kind]
        took = held - before
        print(f"{kind:16} {(opening[kind, process] - before) / MIB:9.0f} {reckoned.opening / MIB:9.0f} {took / MIB:9.0f} "
              f"{reckoned.total / MIB:9.0f} {reckoned.total / took:6.2f}")  # fmt: skip
    for kind, reckoned in needs.items():
        print(f"{kind}: {reckoned}")


if __name__ == "__main__":
    main()
