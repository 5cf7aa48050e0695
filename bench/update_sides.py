"""One side of `update.py`, in a process of its own: learns with one program and tells what it took.

    PYTHON update_sides.py ours|trl VOCABULARY THREADS

Reads one JSON request per line, the fields of `update.Work`: answers with {"cpu", "seconds", "memory", "norm"} of one update.
The learning rate is 0, so that every update begins with the same weights; the optimizer works all the same.
"""

import contextlib
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

Update: TypeAlias = Callable[["Clock"], float]
"""Learns once, by the clock; the norm of the gradient."""
Side: TypeAlias = Callable[[dict[str, Any]], Update]
"""Makes everything ready for an update from these rollouts."""


class Clock:
    """What passes between start and stop: seconds, of the wall and of the CPU."""

    def start(self) -> None:
        self.seconds, self.cpu = -time.perf_counter(), -time.process_time()

    def stop(self) -> None:
        self.seconds += time.perf_counter()
        self.cpu += time.process_time()


def model(vocabulary: int) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=vocabulary, hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=None,
            eos_token_id=1, pad_token_id=0,
        )
    )  # fmt: skip


def ours(vocabulary: int) -> Side:
    from gasp_rl.policy.engine import Loss, OptimParams, TrainItem  # noqa: PLC0415 - not all sides have all packages
    from gasp_rl.policy.learner import ModelLearner  # noqa: PLC0415

    trained = model(vocabulary)

    def ready(work: dict[str, Any]) -> Update:
        learner = ModelLearner(trained, work["token_budget"], torch.float32)

        def items(old: list[list[float]]) -> list[TrainItem]:
            rollouts = zip(work["prompts"], work["completions"], work["advantages"], old, strict=True)
            return [TrainItem(tuple(p), tuple(c), a, tuple(logprobs)) for p, c, a, logprobs in rollouts]

        old = learner.logprobs(items([[] for _ in work["prompts"]]), 1.0)  # a sampler would have told them
        batch, loss = items(old), Loss(float(sum(map(len, work["completions"]))))

        def update(clock: Clock) -> float:
            clock.start()
            learner.forward_backward(batch, loss)
            norm = learner.optim_step(OptimParams(lr=0.0)).grad_norm
            clock.stop()
            return norm

        return update

    return ready


def trl(vocabulary: int) -> Side:
    """One step of GRPOTrainer, its micro-batches and its optimizer; rollouts and advantages are given to it."""
    from datasets import Dataset  # noqa: PLC0415
    from tokenizers import Tokenizer, models  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast, TrainerCallback  # noqa: PLC0415
    from trl import GRPOConfig, GRPOTrainer  # noqa: PLC0415

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<end>": 1, "a": 2}, unk_token="<pad>"))  # noqa: S106 - no password
    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>")  # noqa: S106
    trained = model(vocabulary)

    class Given(GRPOTrainer):  # type: ignore[misc]
        given: dict[str, Any]

        def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
            return self.given

    class Timed(TrainerCallback):
        """From the first micro-batch of a step to the end of the optimizer's: no more of `train` than that."""

        def __init__(self, clock: Clock) -> None:
            self.clock = clock

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            self.clock.start()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.clock.stop()

    def padded(texts: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(map(len, texts))
        ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
        return ids, torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])

    folder = tempfile.mkdtemp()

    def ready(work: dict[str, Any]) -> Update:
        prompts, completions = work["prompts"], work["completions"]
        rows = work["token_budget"] // (len(prompts[0]) + max(map(len, completions)))
        settings = GRPOConfig(
            output_dir=folder, use_cpu=True, bf16=False, learning_rate=0.0, per_device_train_batch_size=rows,
            gradient_accumulation_steps=len(prompts) // rows, num_generations=2, max_steps=1, beta=0.0,
            loss_type="dapo", gradient_checkpointing=False, save_strategy="no", report_to=[], disable_tqdm=True,
            logging_steps=1, lr_scheduler_type="constant", max_completion_length=max(map(len, completions)),
        )  # fmt: skip
        dataset = Dataset.from_dict({"prompt": ["a"] * len(prompts)})
        trainer = Given(trained, [lambda **_: [0.0]], args=settings, train_dataset=dataset, processing_class=tokenizer)
        prompt_ids, prompt_mask = padded(prompts)
        completion_ids, completion_mask = padded(completions)
        trainer.given = {
            "prompt_ids": prompt_ids, "prompt_mask": prompt_mask, "completion_ids": completion_ids,
            "completion_mask": completion_mask, "advantages": torch.tensor(work["advantages"]),
            "num_items_in_batch": completion_mask.sum(),
        }  # fmt: skip

        def update(clock: Clock) -> float:
            trainer.add_callback(Timed(clock))
            trainer.train()
            return float(next(entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry))

        return update

    return ready


SIDES = {"ours": ours, "trl": trl}


def resident(peak: bool = False) -> int:
    """Bytes of this process in memory, now or at the most since the peak was last forgotten."""
    field = "VmHWM:" if peak else "VmRSS:"
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main() -> None:
    name, vocabulary, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    warnings.simplefilter("ignore")
    logging.disable()
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # a library's words are no answer
        ready = SIDES[name](int(vocabulary))
        before = resident()
        packages = ["torch", "transformers", *(["trl"] if name == "trl" else [])]
        print(json.dumps({"versions": " ".join(f"{p} {version(p)}" for p in packages)}), file=answers, flush=True)
        for line in sys.stdin:
            update = ready(json.loads(line))
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak
            clock = Clock()
            norm = update(clock)
            memory = resident(peak=True) - before
            answer = {"cpu": clock.cpu, "seconds": clock.seconds, "memory": memory, "norm": norm}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
