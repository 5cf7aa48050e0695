"""A model behind an endpoint, played by a small server in this process that answers, falters and refuses as real ones do."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

import pytest

from gasp_rl.config import EndpointConfig
from gasp_rl.errors import EngineError, GaspError, ModelError
from gasp_rl.policy.endpoint import Endpoint
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.progress import Silent
from gasp_rl.rollout import Completion, Message

Reply: TypeAlias = tuple[int, bytes, dict[str, str]]
"""Status, body, headers."""


def chat(text: str | None, tokens: int = 7, reason: str = "stop") -> Reply:
    body = {"choices": [{"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": tokens}}  # fmt: skip
    return 200, json.dumps(body).encode(), {}


def fault(status: int, message: str, **headers: str) -> Reply:
    return status, json.dumps({"error": {"message": message}}).encode(), headers


@dataclass
class Server:
    """Answers what `reply` says of (path, body, how often this body came before), and remembers what it was asked."""

    reply: Callable[[str, dict[str, Any], int], Reply] = lambda path, body, before: chat("hello")
    seen: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    url: str = ""
    pauses: list[float] = field(default_factory=list)
    """That the client took, in no time."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, raw: bytes, key: str) -> Reply:
        body = json.loads(raw) if raw else {}
        with self.lock:
            before = sum(body == other for _, other, _ in self.seen)
            self.seen.append((path, body, key))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return self.reply(path, body, before)
        finally:
            with self.lock:
                self.at_once -= 1


@pytest.fixture
def server() -> Iterator[Server]:
    played = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body, headers = played.answer(self.path, raw, self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    class Listening(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that has given up is none of ours."""

    with Listening(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        played.url = f"http://127.0.0.1:{listening.server_address[1]}/v1"
        yield played
        listening.shutdown()
        thread.join()


ASK = (Message("system", "be brief"), Message("user", "say hello"))
PARAMS = SamplingParams(50, 0.6)


@pytest.fixture(autouse=True)
def _without_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GASP_API_KEY", raising=False)


def endpoint(server: Server, **config: Any) -> Endpoint:
    return Endpoint(f"{server.url}#tiny", EndpointConfig(**config), pause=server.pauses.append)


def texts(found: list[tuple[int, list[Completion]]]) -> list[list[str]]:
    assert [place for place, _ in found] == list(range(len(found)))
    return [[completion.text for completion in completions] for _, completions in found]


def test_each_completion_is_a_request_with_a_seed_of_its_own_and_comes_back_in_its_place(server: Server) -> None:
    server.reply = lambda path, body, before: chat(f"{body['messages'][-1]['content']} {body['seed']}")
    prompts = [(Message("user", name),) for name in ("a", "b", "c")]

    found = list(endpoint(server).sample(prompts, 2, PARAMS, [10, 20, 2**62]))

    assert texts(found) == [["a 10", "a 11"], ["b 20", "b 21"], ["c 0", "c 1"]]
    assert {body["n"] for _, body, _ in server.seen} == {1}


def test_a_chat_is_sent_as_messages_and_a_text_as_a_text_to_be_completed(server: Server) -> None:
    def reply(path: str, body: dict[str, Any], before: int) -> Reply:
        if path == "/v1/completions":
            done = {"choices": [{"text": "..." + body["prompt"], "finish_reason": "stop"}]}
            return 200, json.dumps(done).encode(), {}
        return chat("hi")

    server.reply = reply

    found = list(endpoint(server).sample([ASK, "once upon"], 1, SamplingParams(50, 0.6, ("END",)), [0, 0]))

    assert texts(found) == [["hi"], ["...once upon"]]
    sent = {path: body for path, body, _ in server.seen}
    assert sent["/v1/chat/completions"] == {
        "model": "tiny", "max_tokens": 50, "temperature": 0.6, "top_p": 1.0, "n": 1, "seed": 0, "stop": ["END"],
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "say hello"}],
    }  # fmt: skip


def test_what_was_cut_off_says_so_and_an_answer_of_nothing_is_an_empty_one(server: Server) -> None:
    server.reply = lambda path, body, before: chat("and then", reason="length") if body["seed"] == 0 else chat(None)

    ((_, found),) = endpoint(server).sample([ASK], 2, PARAMS, [0])

    assert [(completion.text, completion.finished) for completion in found] == [("and then", False), ("", True)]


def test_tokens_are_counted_as_the_server_counts_them(server: Server) -> None:
    asked = endpoint(server)

    list(asked.sample([ASK, ASK], 3, PARAMS, [0, 9]))

    assert asked.sampled_tokens == 6 * 7


def test_a_server_that_does_not_count_is_named_once(server: Server) -> None:
    class Notes(Silent):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    server.reply = lambda path, body, before: (200, b'{"choices": [{"message": {"content": "x"}}]}', {})
    notes = Notes()

    list(Endpoint(f"{server.url}#tiny", EndpointConfig(concurrency=1), notes).sample([ASK], 3, PARAMS, [0]))

    assert notes.notes == [f"{server.url} does not say how many tokens it wrote: they are not counted"]


@pytest.mark.parametrize("passing", [429, 500, 503])
def test_what_may_pass_is_tried_again_after_growing_pauses(server: Server, passing: int) -> None:
    server.reply = lambda path, body, before: fault(passing, "busy") if before < 3 else chat("at last")
    asked = endpoint(server)

    assert texts(list(asked.sample([ASK], 1, PARAMS, [0]))) == [["at last"]]
    assert server.pauses == [0.5, 1.0, 2.0]


def test_the_server_may_ask_for_a_longer_pause_within_reason(server: Server) -> None:
    waits = ["7", "100000", "soon", "-3", "nan"]
    server.reply = lambda path, body, before: fault(429, "", Retry_After=waits[before]) if before < 5 else chat("x")
    asked = endpoint(server)

    list(asked.sample([ASK], 1, PARAMS, [0]))

    assert server.pauses == [7, 60, 2, 4, 8]


def test_after_so_many_tries_the_last_cause_is_said(server: Server) -> None:
    server.reply = lambda path, body, before: fault(503, "loading the model")

    with pytest.raises(EngineError) as raised:
        list(endpoint(server, tries=3).sample([ASK], 1, PARAMS, [0]))

    assert str(raised.value).startswith(
        f"{server.url} gave no answer in 3 tries; the last: HTTP 503 Service Unavailable"
    )
    assert "loading the model" in str(raised.value)
    assert len(server.seen) == 3


def test_nonsense_is_tried_again_and_then_named(server: Server) -> None:
    server.reply = lambda path, body, before: (200, b"<html>" if before else b'{"choices": []}', {})

    with pytest.raises(EngineError, match="what came back is not an answer"):
        list(endpoint(server, tries=2).sample([ASK], 1, PARAMS, [0]))


def test_nobody_there_is_named(server: Server) -> None:
    with pytest.raises(EngineError, match=r"gave no answer in 1 tries; the last: .*refused"):
        list(Endpoint("http://127.0.0.1:9/v1#tiny", EndpointConfig(tries=1)).sample([ASK], 1, PARAMS, [0]))


def test_a_server_that_says_nothing_is_given_up(server: Server) -> None:
    silence = threading.Event()

    def reply(path: str, body: dict[str, Any], before: int) -> Reply:
        silence.wait(5)
        return chat("too late")

    server.reply = reply

    with pytest.raises(EngineError, match=r"nothing within 0.05 s"):
        list(endpoint(server, tries=1, timeout_seconds=0.05).sample([ASK], 1, PARAMS, [0]))
    silence.set()


@pytest.mark.parametrize(
    ("status", "said", "line"),
    [
        (401, "who are you", r"refuses \(HTTP 401 Unauthorized: .*who are you.*\): the key in GASP_API_KEY is not set"),
        (404, "no such model", "does not know this .*no such model.*: check the URL, which usually ends in /v1"),
        (400, "temperature must be even", r"refuses the request \(HTTP 400 Bad Request: .*must be even"),
        (307, "", "sends on to another address"),
    ],
)
def test_what_will_not_pass_is_not_tried_again(server: Server, status: int, said: str, line: str) -> None:
    server.reply = lambda path, body, before: fault(status, said, Location="http://elsewhere.invalid/")

    with pytest.raises(EngineError, match=line):
        list(endpoint(server, concurrency=1).sample([ASK, ASK], 1, PARAMS, [0, 1]))
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "said", ["This model's maximum context length is 4096 tokens", "the request exceeds the available context size"]
)
def test_a_prompt_without_room_gets_no_completions(server: Server, said: str) -> None:
    def reply(path: str, body: dict[str, Any], before: int) -> Reply:
        return fault(400, said) if "long" in body["messages"][0]["content"] else chat("fits")

    server.reply = reply
    prompts = [(Message("user", "long"),), (Message("user", "short"),)]

    assert texts(list(endpoint(server).sample(prompts, 2, PARAMS, [0, 0]))) == [[], ["fits", "fits"]]


def test_as_many_requests_are_in_flight_as_allowed_and_no_more(server: Server) -> None:
    together = threading.Barrier(3)

    def reply(path: str, body: dict[str, Any], before: int) -> Reply:
        together.wait(30)
        return chat("x")

    server.reply = reply

    list(endpoint(server, concurrency=3).sample([ASK] * 21, 1, PARAMS, range(21)))

    assert server.most_at_once == 3
    assert len(server.seen) == 21


def test_the_key_comes_from_the_environment_and_never_shows(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sesame-123")
    server.reply = lambda path, body, before: chat("x") if before else fault(403, "sesame-123 is not a key")
    asked = endpoint(server, key_variable="MY_KEY")

    with pytest.raises(EngineError) as raised:
        list(asked.sample([ASK], 1, PARAMS, [0]))
    list(asked.sample([ASK], 1, PARAMS, [0]))

    assert {key for _, _, key in server.seen} == {"Bearer sesame-123"}
    assert "sesame" not in str(raised.value)
    assert "the key in MY_KEY is not accepted" in str(raised.value)


def test_a_key_does_not_travel_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GASP_API_KEY", "sesame")

    with pytest.raises(ModelError, match="would travel unencrypted; use https, or unset GASP_API_KEY"):
        Endpoint("http://models.example/v1#tiny")
    Endpoint("https://models.example/v1#tiny")


@pytest.mark.parametrize("url", ["http://me:secret@host/v1#m", "http:///v1", "http://host/v1?key=secret#m"])
def test_a_url_with_credentials_is_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(ModelError, match="is no endpoint: give it as http://host:8000/v1#model") as raised:
        Endpoint(url)
    assert "secret" not in str(raised.value)


def test_without_a_name_the_only_model_is_taken(server: Server) -> None:
    names = ["tiny"]
    server.reply = lambda path, body, before: (200, json.dumps({"data": [{"id": name} for name in names]}).encode(), {})

    assert Endpoint(server.url + "/").model == "tiny"
    assert server.seen[0][0] == "/v1/models"
    names.append("huge")
    with pytest.raises(ModelError, match=r"has 2 models \(tiny, huge\): name one, as in .*/v1#model"):
        Endpoint(server.url)


def test_a_server_that_does_not_list_its_models_needs_a_name(server: Server) -> None:
    server.reply = lambda path, body, before: fault(500, "no list")

    with pytest.raises(GaspError, match=r"does not say which models it has .*: is it running"):
        Endpoint(server.url)


def test_who_stops_listening_stops_the_asking(server: Server) -> None:
    answers = endpoint(server, concurrency=1).sample([ASK] * 500, 1, PARAMS, range(500))

    next(answers)
    del answers  # nobody can ask for more

    assert len(server.seen) < 500
