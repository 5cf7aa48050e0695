"""A model behind an OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, TGI, a hosted service. It answers; it cannot learn.

One request per completion, each with a seed of its own, so many in flight at a time; what comes back is handed on in
the order in which it was asked. Servers promise less than `Engine`: the same seed need not give the same text.
"""

import http.client
import json
import math
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from gasp_rl.config import EndpointConfig
from gasp_rl.errors import EngineError, ModelError
from gasp_rl.policy.engine import SamplingParams
from gasp_rl.progress import Observer, Silent
from gasp_rl.rollout import Completion, Prompt

SEEDS = 2**31
"""Seeds are taken modulo this: some servers hold them in 32 bits."""
LONGEST_ANSWER = 64 << 20
"""Bytes of a response that are read at most."""
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP statuses that may pass."""
NO_ROOM = (
    "context length",
    "context_length",
    "context size",
    "maximum context",
    "too many tokens",
    "prompt is too long",
)
"""What servers say of a prompt that is too long for the model, in one wording or another."""
LOCAL = ("localhost", "127.0.0.1", "::1")
FIRST_PAUSE = 0.5
"""Seconds before the first repetition; each later pause is twice as long, up to `LONGEST_PAUSE`."""
LONGEST_PAUSE = 60.0


def is_endpoint(path: str) -> bool:
    return path.startswith(("http://", "https://"))


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    message: _Message | None = None
    """Of a chat."""
    text: str | None = None
    """Of a text that was completed."""


class _Usage(msgspec.Struct):
    completion_tokens: int = 0


class _Response(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


@dataclass(frozen=True, slots=True)
class _Job:
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class _Written:
    """One completion as it came back; None where the prompt had no room."""

    text: str | None
    finished: bool = True
    tokens: int = 0


class _TransientError(Exception):
    """May pass when it is tried again; after `seconds`, if the server said so."""

    def __init__(self, cause: str, seconds: float = 0.0) -> None:
        super().__init__(cause)
        self.seconds = seconds


class Endpoint:
    """Implements `Respondent`."""

    def __init__(
        self,
        url: str,
        config: EndpointConfig = EndpointConfig(),  # noqa: B008 - a frozen value
        observer: Observer | None = None,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        """`url` is that of the API, usually ending in /v1, with the model's name behind a `#`, as in
        `http://localhost:8000/v1#Qwen/Qwen2.5-Coder-7B-Instruct`. Without a name, the only model there is taken.
        """
        parts = urlsplit(url)
        if not parts.hostname or parts.username or parts.password or parts.query:
            raise ModelError(f"model.path {_public(url)!r} is no endpoint: give it as http://host:8000/v1#model, without "
                             "credentials")  # fmt: skip
        self.url = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        self._config = config
        self._observer = observer or Silent()
        self._pause = pause
        self._key = os.environ.get(config.key_variable, "")
        local = parts.hostname in LOCAL
        if self._key and parts.scheme == "http" and not local:
            raise ModelError(f"model.path {self.url!r}: the key in {config.key_variable} would travel unencrypted; use "
                             f"https, or unset {config.key_variable}")  # fmt: skip
        self._opener = urllib.request.build_opener(
            _NoRedirects(), *([urllib.request.ProxyHandler({})] if local else [])
        )  # fmt: skip
        self.model = parts.fragment or self._only_model()
        self.sampled_tokens = 0
        """As the server counts them."""
        self._counted = True

    def sample(
        self, prompts: Sequence[Prompt], n: int, params: SamplingParams, seeds: Sequence[int]
    ) -> Iterator[tuple[int, list[Completion]]]:
        asked = list(zip(prompts, seeds, strict=True))

        def job(number: int) -> _Job:
            prompt, seed = asked[number // n]
            return self._job(prompt, params, seed + number % n)

        group: list[_Written] = []
        for number, written in enumerate(self._answers(job, len(asked) * n), start=1):
            group.append(written)
            self._observer.sampling(0, written.tokens, written.tokens)
            if number % n == 0:
                self.sampled_tokens += sum(one.tokens for one in group)
                self._observer.progress(number // n, len(asked))
                completions = [Completion((), (), w.text, w.finished, 0) for w in group if w.text is not None]
                group = []
                yield number // n - 1, completions

    def _job(self, prompt: Prompt, params: SamplingParams, seed: int) -> _Job:
        body: dict[str, object] = {
            "model": self.model,
            "max_tokens": params.max_tokens,
            "temperature": params.temperature,
            "top_p": 1.0,
            "n": 1,
            "seed": seed % SEEDS,
        }
        if params.stop:
            body["stop"] = list(params.stop)
        if isinstance(prompt, str):
            return _Job("/completions", json.dumps({**body, "prompt": prompt}).encode())
        messages = [{"role": message.role, "content": message.content} for message in prompt]
        return _Job("/chat/completions", json.dumps({**body, "messages": messages}).encode())

    def _answers(self, job: Callable[[int], _Job], count: int) -> Iterator[_Written]:
        """In the order of the jobs. Threads are daemons: an interrupted command does not wait for a slow server."""
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(count):
            waiting.put(number)
        came: queue.SimpleQueue[tuple[int, _Written | EngineError]] = queue.SimpleQueue()
        stopped = threading.Event()

        def work() -> None:
            while not stopped.is_set():
                try:
                    number = waiting.get_nowait()
                except queue.Empty:
                    return
                found: _Written | EngineError = EngineError(f"asking {self.url} failed in a way that nobody foresaw")
                try:
                    found = self._answer(job(number), stopped)
                except EngineError as error:
                    found = error
                finally:  # whatever happened, nobody waits for it in vain
                    came.put((number, found))
                    if isinstance(found, EngineError):  # here and not only by who reads it: nothing is asked meanwhile
                        stopped.set()

        for _ in range(min(self._config.concurrency, count)):
            threading.Thread(target=work, daemon=True).start()
        early: dict[int, _Written] = {}
        try:
            for number in range(count):
                while number not in early:
                    other, found = came.get()
                    if isinstance(found, EngineError):
                        raise found
                    early[other] = found
                yield early.pop(number)
        finally:
            stopped.set()

    def _answer(self, job: _Job, stopped: threading.Event) -> _Written:
        cause = ""
        for attempt in range(self._config.tries):
            if stopped.is_set():
                break
            try:
                return self._ask(job)
            except _TransientError as error:
                cause = str(error)
                if attempt + 1 < self._config.tries:
                    self._pause(min(max(FIRST_PAUSE * 2**attempt, error.seconds), LONGEST_PAUSE))
        raise EngineError(f"{self.url} gave no answer in {self._config.tries} tries; the last: {cause}")

    def _ask(self, job: _Job) -> _Written:
        try:
            data = self._request(job.path, job.body)
        except _NoRoomError:
            return _Written(None)
        try:
            response = msgspec.json.decode(data, type=_Response)
        except msgspec.MsgspecError as error:
            raise _TransientError(f"what came back is not an answer ({error})") from error
        if not response.choices:
            raise _TransientError("the answer holds no choice")
        choice = response.choices[0]
        text = choice.message.content if choice.message else choice.text
        if response.usage is None and self._counted:
            self._counted = False
            self._observer.note(f"{self.url} does not say how many tokens it wrote: they are not counted")
        tokens = response.usage.completion_tokens if response.usage else 0
        return _Written(text or "", choice.finish_reason != "length", tokens)

    def _request(self, path: str, body: bytes | None = None) -> bytes:
        """POST `body`, or GET where there is none."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url + path, body, headers)  # noqa: S310 - http or https, see is_endpoint
        try:
            with self._opener.open(request, timeout=self._config.timeout_seconds) as response:
                data: bytes = response.read(LONGEST_ANSWER + 1)
        except urllib.error.HTTPError as error:
            raise self._fault(error) from error
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(reason, TimeoutError):
                raise _TransientError(f"nothing within {self._config.timeout_seconds:g} s") from error
            raise _TransientError(str(reason) or type(reason).__name__) from error
        if len(data) > LONGEST_ANSWER:
            raise EngineError(f"{self.url}{path} sent more than {LONGEST_ANSWER >> 20} MiB")
        return data

    def _fault(self, error: urllib.error.HTTPError) -> Exception:
        """What an HTTP status other than 200 means: to wait, to leave the prompt out, or to stop."""
        try:
            said = " ".join(error.read(4096).decode("utf-8", "replace").split())[:300]
        except (OSError, http.client.HTTPException):
            said = ""
        said = said.replace(self._key, "***") if self._key else said
        cause = f"HTTP {error.code} {error.reason}: {said}".rstrip(": ")
        if error.code in RETRIED:
            return _TransientError(cause, _seconds(error.headers.get("Retry-After", "")))
        if error.code in (400, 413, 422) and any(words in said.lower() for words in NO_ROOM):
            return _NoRoomError()
        if error.code in (401, 403):
            known = "is not accepted" if self._key else "is not set"
            return EngineError(f"{self.url} refuses ({cause}): the key in {self._config.key_variable} {known}")
        if error.code == 404:
            return EngineError(f"{self.url} does not know this ({cause}): check the URL, which usually ends in /v1, and "
                               f"the model's name behind the #")  # fmt: skip
        if 300 <= error.code < 400:
            return EngineError(f"{self.url} sends on to another address: give that one")
        return EngineError(f"{self.url} refuses the request ({cause})")

    def _only_model(self) -> str:
        try:
            models = msgspec.json.decode(self._request("/models"), type=_Models).data
        except (_TransientError, msgspec.MsgspecError) as error:
            raise ModelError(f"{self.url} does not say which models it has ({error}): is it running? Its name can be "
                             f"given: {self.url}#model") from error  # fmt: skip
        if len(models) != 1:
            known = ", ".join(model.id for model in models[:5]) or "none"
            raise ModelError(f"{self.url} has {len(models)} models ({known}): name one, as in {self.url}#model")
        return models[0].id


class _NoRoomError(Exception):
    """The prompt leaves the context no room."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected request would take the key along."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def _seconds(text: str) -> float:
    """Of a Retry-After header; 0 where it is a date or nothing."""
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _public(url: str) -> str:
    """A URL as it may be shown: without a name, a password and what is asked of it."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
