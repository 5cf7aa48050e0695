"""A service that speaks the Tinker interface, by its own SDK: reached or not, with deadlines, its faults in one line.

The only module that knows the SDK, which is an extra and imported when a service is opened. It waits for minutes where nothing
answers, or for ever, and says nothing: so whatever is asked here is asked with a deadline and beside a look at whether anything
listens there at all. Knows no losses and no samples.
"""

import http.client
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from gasp_rl.config import TinkerConfig
from gasp_rl.errors import ConfigError, EngineError, ServiceLostError

SDK: Final = "0.24"
"""What we speak. Servers of one's own (SkyRL, 2026-08) do not know what came later."""
HOSTED: Final = "https://tinker.thinkingmachines.dev/services/tinker-prod"
"""Where the SDK goes by itself."""
KEY: Final = "TINKER_API_KEY"
NO_KEY: Final = "tml-none"
"""The SDK wants a key where a server of one's own wants none."""
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
PULSE: Final = 2.0
"""Seconds of silence before a look at whether the service is still there."""
KNOCK: Final = 10.0
"""Seconds that such a look may take."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Served:
    """A model that the service has."""

    name: str
    context: int
    """0 where it does not say."""


class Service:
    """A session with a service."""

    def __init__(self, config: TinkerConfig) -> None:
        """ConfigError for what a setting can mend, ServiceLostError where nobody answers."""
        _require_sdk()
        self.url = (config.address or os.environ.get("TINKER_BASE_URL") or HOSTED).rstrip("/")
        self._config = config
        key = self._key()
        os.environ.setdefault("TINKER_TELEMETRY", "0")  # it tells the service of our faults, with traces
        logging.getLogger("tinker").setLevel(logging.CRITICAL)  # each retry is a warning; the last word is ours
        if silence := self._silence():
            raise ServiceLostError(f"no Tinker service at {self.url} ({silence}): is it running, is the address right "
                                   "(--tinker.address)?")  # fmt: skip
        import tinker  # noqa: PLC0415 - an extra

        self.sdk: Any = tinker
        """The SDK itself, for its types."""
        self.client: Any = tinker.ServiceClient(base_url=self.url, api_key=key)

    def models(self) -> list[Served]:
        """What it can train."""
        found = self.ask("what it can do", self.client.get_server_capabilities, self._config.start_seconds)
        return [
            Served(one.model_name, getattr(one, "max_context_length", None) or 0)
            for one in found.supported_models
            if one.model_name
        ]

    def ask(self, what: str, question: Callable[[], T], seconds: float = 0.0) -> T:
        """What a call to the SDK returns that may take its time, within so many seconds: those of an answer, if 0."""
        return self.wait(what, _apart(question, self._faults()), seconds)

    def wait(self, what: str, answer: "Future[T]", seconds: float = 0.0) -> T:
        """What the SDK promised. ServiceLostError once the service has been out of reach for too long, or takes too long."""
        setting = "--tinker.start-seconds" if seconds else "--tinker.answer-seconds"
        seconds = seconds or self._config.answer_seconds
        start = heard = time.monotonic()
        try:
            while True:
                left = start + seconds - time.monotonic()
                try:
                    return answer.result(max(0.0, min(left, PULSE)))
                except TimeoutError:
                    if answer.done():
                        raise
                if left <= 0:
                    raise ServiceLostError(f"the Tinker service at {self.url} gave no answer to: {what}, for {seconds:g} s "
                                           f"({setting})")  # fmt: skip
                silence = self._silence()
                heard = heard if silence else time.monotonic()
                if time.monotonic() - heard >= self._config.silence_seconds:
                    raise ServiceLostError(f"the Tinker service at {self.url} is gone ({silence}), asked for: {what}")
        except self._faults() as fault:
            raise self._told(what, fault) from fault
        finally:
            answer.cancel()

    def close(self) -> None:
        """End the session, as far as one can: the service forgets it when it hears no more of us."""
        holder = self.client._session_holder  # noqa: SLF001 - asking for it by name would begin one
        if holder is not None:
            holder.close()

    def _key(self) -> str:
        key = os.environ.get(KEY, "")
        parts = urlsplit(self.url)
        if not self._config.address and not key and self.url == HOSTED:
            raise ConfigError(f"engine tinker needs the key of the hosted service in {KEY}, or a server of your own "
                              "(--tinker.address http://...)")  # fmt: skip
        if key and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ConfigError(f"tinker.address {self.url!r}: the key in {KEY} would travel unencrypted; use https, or "
                              f"unset {KEY}")  # fmt: skip
        if key and not key.startswith(("tml-", "eyJ")):
            raise ConfigError(f"{KEY} holds no key of this kind: they begin with tml-")
        return key or NO_KEY

    def _silence(self) -> str:
        """Why nothing that could be a service is to be heard there; empty if it is."""
        around = urllib.request.ProxyHandler({}) if urlsplit(self.url).hostname in LOOPBACK else None
        opener = urllib.request.build_opener(*([around] if around else []))
        try:
            with opener.open(f"{self.url}/api/v1/healthz", timeout=min(KNOCK, self._config.silence_seconds)):
                return ""
        except urllib.error.HTTPError as error:
            error.close()
            return "something else answers there: HTTP 404" if error.code == 404 else ""
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            return str(reason) or type(reason).__name__

    def _faults(self) -> tuple[type[BaseException], ...]:
        """What the SDK raises, or lets through, when a service does not do as it expects."""
        from tinker.lib.retryable_exception import RetryableException  # noqa: PLC0415

        return (
            self.sdk.TinkerError, RetryableException, ValueError, TypeError, LookupError, AssertionError, AttributeError,
            RuntimeError, OSError, CancelledError,
        )  # fmt: skip

    def _told(self, what: str, fault: BaseException) -> EngineError:
        said = " ".join(str(fault).split())[:300] or type(fault).__name__
        key = os.environ.get(KEY, "")
        said = said.replace(key, "***") if key else said
        sdk = self.sdk
        if isinstance(fault, sdk.AuthenticationError | sdk.PermissionDeniedError):
            return EngineError(f"the Tinker service at {self.url} refuses the key in {KEY} ({said})")
        if isinstance(fault, sdk.APIConnectionError | OSError):
            return ServiceLostError(f"the Tinker service at {self.url} cannot be reached ({said}), asked for: {what}")
        return EngineError(
            f"the Tinker service at {self.url} failed, asked for: {what} ({said}); this end speaks as version "
            f"{sdk.__version__} of its SDK does"
        )


def _require_sdk() -> None:
    try:
        found = version("tinker")
    except PackageNotFoundError:
        raise ConfigError("engine tinker needs the tinker package: pip install 'gasp-rl[tinker]'") from None
    if not found.startswith(f"{SDK}."):
        raise ConfigError(f"engine tinker speaks as version {SDK} of the tinker package does, and {found} is installed: pip "
                          "install 'gasp-rl[tinker]'")  # fmt: skip


def _apart(question: Callable[[], T], faults: Sequence[type[BaseException]]) -> "Future[T]":
    """Ask in a thread that nobody has to wait for, at the end of the program neither."""
    answer: Future[T] = Future()

    answer.set_running_or_notify_cancel()

    def run() -> None:
        fault: BaseException | None = EngineError("the SDK failed in a way that nobody foresaw")
        try:
            answer.set_result(question())
            fault = None
        except tuple(faults) as error:
            fault = error
        finally:  # whatever happened, nobody waits for it in vain
            if fault is not None:
                answer.set_exception(fault)

    threading.Thread(target=run, daemon=True, name="tinker").start()
    return answer
