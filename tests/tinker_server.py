"""A server that speaks the Tinker interface on loopback, with a small model behind it: for tests, a process of its own.

Written from the interface, not from our engine: gradients are those of a plain loop over items. Prints its port once it listens.
"""

import argparse
import copy
import json
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import PreTrainedModel

from gasp_rl.config import LoraConfig
from gasp_rl.policy.engine import SampleRequest, SamplingParams, Stop
from gasp_rl.policy.inprocess import InProcessSampler
from gasp_rl.policy.lora import add_lora
from gasp_rl.policy.models import open_model

Json: TypeAlias = dict[str, Any]


class RefusedError(Exception):
    """An HTTP status and what is said with it."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


@dataclass
class Trained:
    """A model with adapters, and what was asked of it."""

    model: PreTrainedModel
    rank: int
    optimizer: torch.optim.AdamW
    items: int = 0
    """Whose gradients wait for the step."""
    requests: int = 0


@dataclass
class Promise:
    done: threading.Event = field(default_factory=threading.Event)
    answer: Json = field(default_factory=dict)


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.base, self.tokenizer = open_model(options.model)
        self.base.requires_grad_(requires_grad=False)
        self.trained: dict[str, Trained] = {}
        self.samplers: dict[str, InProcessSampler] = {}
        self.promises: dict[str, Promise] = {}
        self.jobs: queue.SimpleQueue[tuple[str, Callable[[], Json]]] = queue.SimpleQueue()
        self.counter = 0
        self.routes: dict[str, Callable[[Json], Json]] = {
            "client/config": lambda _: {},
            "create_session": lambda _: {"session_id": self.fresh("session")},
            "session_heartbeat": lambda _: {},
            "telemetry": lambda _: {"status": "accepted"},
            "create_sampling_session": self.create_sampling_session,
            "retrieve_future": self.retrieve,
            "become": self.become,
        }
        self.works: dict[str, Callable[[Json], Json]] = {
            "create_model": self.create_model,
            "forward": lambda asked: self.passed(asked["model_id"], asked["forward_input"], learns=False),
            "forward_backward": lambda asked: self.passed(
                asked["model_id"], asked["forward_backward_input"], learns=True
            ),
            "optim_step": self.optim_step,
            "save_weights": self.save_weights,
            "load_weights": self.load_weights,
            "save_weights_for_sampler": self.save_weights_for_sampler,
            "asample": self.sample,
        }
        threading.Thread(target=self.work, daemon=True).start()

    def fresh(self, kind: str) -> str:
        self.counter += 1
        return f"{kind}-{self.counter}"

    def become(self, asked: Json) -> Json:
        """Another kind of server, by options."""
        vars(self.options).update(asked)
        return {}

    def work(self) -> None:
        while True:
            name, job = self.jobs.get()
            try:
                answer = job()
            except RefusedError as refusal:
                answer = {"error": str(refusal), "category": "user"}
            except (KeyError, ValueError, RuntimeError, OSError) as error:
                answer = {"error": f"{type(error).__name__}: {error}", "category": "server"}
            self.promises[name].answer = answer
            self.promises[name].done.set()

    def answer(self, kind: str, asked: Json) -> Json:
        if kind in self.routes:
            return self.routes[kind](asked)
        if kind not in self.works:
            raise RefusedError(404, f"no {kind} here")
        if kind == "load_weights" and self.trained[asked["model_id"]].requests:
            raise RefusedError(400, "LoadWeights is permitted as the first request only")
        if (one := self.trained.get(asked.get("model_id", ""))) is not None:
            one.requests += 1
        name = self.fresh("request")
        self.promises[name] = Promise()
        if kind != self.options.stalls:
            self.jobs.put((name, lambda: self.works[kind](asked)))
        return {"request_id": name}

    def retrieve(self, asked: Json) -> Json:
        promise = self.promises.get(asked["request_id"])
        if promise is None:
            raise RefusedError(404, "Future not found")
        if not promise.done.wait(5):
            return {"type": "try_again", "request_id": asked["request_id"], "queue_state": "active"}
        return promise.answer

    def create_model(self, asked: Json) -> Json:
        rank = asked["lora_config"]["rank"]
        model = copy.deepcopy(self.base)
        add_lora(model, LoraConfig(rank=rank))
        adapters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        name = self.fresh("model")
        self.trained[name] = Trained(model, rank, torch.optim.AdamW(adapters))
        return {"model_id": name}

    def create_sampling_session(self, asked: Json) -> Json:
        if asked.get("base_model") != self.options.name:
            raise RefusedError(400, f"no model {asked.get('base_model')}")
        return {"sampling_session_id": self.new_sampler(self.base)}

    def new_sampler(self, model: PreTrainedModel) -> str:
        sampler = InProcessSampler(model, self.tokenizer, torch.float32, batch_rows=64, batch_tokens=100_000)
        sampler.publish(model, 0)
        name = self.fresh("sampler")
        self.samplers[name] = sampler
        return name

    def passed(self, model_id: str, given: Json, *, learns: bool) -> Json:
        """Log-probs of the targets and, if it learns, gradients of the loss, accumulated."""
        one = self.trained[model_id]
        outputs = []
        for datum in given["data"]:
            tokens = [token for chunk in datum["model_input"]["chunks"] for token in chunk["tokens"]]
            inputs = {name: torch.tensor(tensor["data"]) for name, tensor in datum["loss_fn_inputs"].items()}
            with torch.set_grad_enabled(learns):
                model: Any = one.model
                logits_TV = model(input_ids=torch.tensor([tokens])).logits[0].float()
                logprobs_T = logits_TV.log_softmax(-1).gather(1, inputs["target_tokens"][:, None])[:, 0]
                loss_T = loss_of(given["loss_fn"], given.get("loss_fn_config") or {}, logprobs_T, inputs)
            if learns:
                total = loss_T.sum() / (len(loss_T) if self.options.sums == "means" else 1)
                torch.autograd.backward(total)
                one.items += 1
            told = logprobs_T.detach().tolist()
            outputs.append({"logprobs": {"data": told, "dtype": "float32", "shape": [len(told)]}})
        return {"loss_fn_output_type": "ArrayRecord", "loss_fn_outputs": outputs, "metrics": {}}

    def optim_step(self, asked: Json) -> Json:
        one, adam = self.trained[asked["model_id"]], asked["adam_params"]
        adapters = one.optimizer.param_groups[0]["params"]
        if self.options.sums == "means":
            for parameter in adapters:
                parameter.grad /= one.items
        largest = adam["grad_clip_norm"] or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(adapters, largest).item()
        one.optimizer.param_groups[0].update(
            lr=adam["learning_rate"], betas=(adam["beta1"], adam["beta2"]), eps=adam["eps"],
            weight_decay=adam["weight_decay"],
        )  # fmt: skip
        one.optimizer.step()
        one.optimizer.zero_grad()
        one.items = 0
        return {"metrics": {"skyrl.ai/grad_norm": norm}}

    def save_weights(self, asked: Json) -> Json:
        one = self.trained[asked["model_id"]]
        torch.save({"adapters": adapters_of(one.model), "optimizer": one.optimizer.state_dict(), "rank": one.rank},
                   Path(self.options.states) / f"{asked['path']}.pt")  # fmt: skip
        return {"path": f"tinker://{asked['model_id']}/weights/{asked['path']}"}

    def load_weights(self, asked: Json) -> Json:
        one = self.trained[asked["model_id"]]
        file = Path(self.options.states) / f"{asked['path'].rpartition('/')[2]}.pt"
        if not file.exists():
            raise RefusedError(404, f"Checkpoint not found: {asked['path']}")
        state = torch.load(file, weights_only=True)
        one.model.load_state_dict(state["adapters"], strict=False)
        if asked["optimizer"]:
            one.optimizer.load_state_dict(state["optimizer"])
        return {"path": asked["path"]}

    def save_weights_for_sampler(self, asked: Json) -> Json:
        model = self.trained[asked["model_id"]].model
        if asked.get("path"):
            return {"path": f"tinker://{asked['model_id']}/sampler_weights/{asked['path']}"}
        return {"sampling_session_id": self.new_sampler(model)}

    def sample(self, asked: Json) -> Json:
        given = asked["sampling_params"]
        prompt = tuple(token for chunk in asked["prompt"]["chunks"] for token in chunk["tokens"])
        stop = () if self.options.ignores_stops else tuple(given.get("stop") or ())
        params = SamplingParams(given["max_tokens"], given.get("temperature", 1.0), stop)
        request = SampleRequest(prompt, asked["num_samples"], params, given["seed"])
        ((_, samples),) = self.samplers[asked["sampling_session_id"]].sample([request])
        return {
            "sequences": [
                {"tokens": list(one.tokens), "logprobs": list(one.logprobs),
                 "stop_reason": "length" if one.stop is Stop.LENGTH else "stop"}
                for one in samples
            ]
        }  # fmt: skip


def adapters_of(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: weight for name, weight in model.state_dict().items() if "lora_" in name}


def loss_of(name: str, config: Json, logprobs_T: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """Per token, as the interface documents it."""
    if name == "cross_entropy":
        return -logprobs_T * inputs["weights"]
    ratio_T = (logprobs_T - inputs["logprobs"]).exp()
    if name == "importance_sampling":
        return -ratio_T * inputs["advantages"]
    raise RefusedError(400, f"no loss {name} here, with {config}")


def handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            match self.path.removeprefix("/api/v1/"):
                case "healthz":
                    self.reply(200, {"status": "ok"})
                case "get_server_capabilities":
                    model = {"model_name": server.options.name}
                    if server.options.context:
                        model["max_context_length"] = server.options.context
                    self.reply(200, {"supported_models": [{"model_name": "other"}, model]})
                case unknown:
                    self.reply(404, {"detail": f"no {unknown} here"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            wanted = server.options.key and not self.path.endswith("become")
            if wanted and self.headers.get("X-API-Key") != server.options.key:
                self.reply(401, {"detail": "who are you?"})
                return
            try:
                self.reply(200, server.answer(self.path.removeprefix("/api/v1/"), json.loads(body)))
            except RefusedError as refusal:
                self.reply(refusal.status, {"detail": str(refusal)})

        def reply(self, status: int, content: Json) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
            pass

    return Handler


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--model", required=True)
    options.add_argument("--name", required=True)
    options.add_argument("--states", required=True)
    options.add_argument("--context", type=int, default=0)
    options.add_argument("--sums", default="tokens")
    options.add_argument("--key", default="")
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--ignores-stops", type=int, default=0)
    options.add_argument("--stalls", default="", help="The kind of request that is never answered")
    torch.set_num_threads(1)
    server = Server(options.parse_args())
    listening = ThreadingHTTPServer(("127.0.0.1", server.options.port), handler(server))
    print(listening.server_port, flush=True)
    listening.serve_forever()


if __name__ == "__main__":
    main()
