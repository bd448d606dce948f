"""``ai.request`` from an official AI SDK: what its clients for OpenAI and Anthropic have in common.

Both are made by one generator: every call of the application is one ``request`` of a client, retries
included, and every parsed answer goes through the ``post_parser`` of that request's options. So ``request``
is wrapped, and the options carry an :class:`_Observer`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from copy import copy
from functools import wraps
from typing import Any, NamedTuple

import orjson

from tocsin.ai import AsyncItems, Call, Items, current_request
from tocsin.guard import GUARD


class Sdk(NamedTuple):
    """What differs. The readers note in a :class:`SdkCall` what an answer, or one item of a stream, says.

    ``operations`` are the paths whose requests are AI calls; ``streams`` the classes of its streams;
    ``api_errors`` are raised for what the provider did, ``safety_errors`` for what a filter did.
    """

    name: str
    operations: frozenset[str]
    read_answer: Callable[[SdkCall, Any], None]
    read_item: Callable[[SdkCall, Any], None]
    streams: tuple[type, ...]
    api_errors: type[Exception]
    safety_errors: tuple[type[Exception], ...] = ()


class SdkCall(Call):
    """One call of the application through an SDK."""

    def __init__(self, sdk: Sdk, client: object, options: Any) -> None:
        body = options.json_data
        model = body.get("model") if isinstance(body, Mapping) else None
        super().__init__("ai.request", {"provider": _provider(sdk, client), "model": model})
        self._sdk = sdk
        self._streams = False
        #: The provider answered with success; its answer was understood; it said that the answer is whole.
        self.answered = self.understood = self.complete = False
        self.tools: set[object] = set()

    def parsed(self, answer: Any) -> None:
        """The SDK has made ``answer`` of the response: a model, or a stream that is yet to be read."""
        if not isinstance(answer, self._sdk.streams):
            self.understood = True
            self._read(self._sdk.read_answer, answer)
        elif not self.ended:
            self._streams = True
            is_async = hasattr(answer, "__anext__")
            # In the place of the SDK's own iterator, so that the host gets the very same stream.
            observed: Any = AsyncItems if is_async else Items
            answer._iterator = observed(self, answer._iterator)  # type: ignore[attr-defined]
            _on_close(answer.response, "aclose" if is_async else "close", self.closed)  # type: ignore[attr-defined]

    def returned(self, result: Any, *, is_async: bool) -> None:
        """The request has returned ``result`` to the application."""
        response = getattr(result, "http_response", result)
        if self._streams or self.ended:
            return
        if self.understood or not hasattr(response, "is_closed"):
            self.end()
        elif response.is_closed:  # a raw response, its body read
            self._read(
                lambda call, content: self._sdk.read_answer(call, orjson.loads(content)), response.content
            )
            self.end()
        elif hasattr(result, "http_response") and hasattr(result, "close"):
            _on_close(result, "close", self.closed)
        else:
            _on_close(response, "aclose" if is_async else "close", self.closed)

    def came(self, item: Any) -> None:
        """An item of the stream has come."""
        self._read(self._sdk.read_item, item)

    def closed(self) -> None:
        """The response is closed, by the application unless the stream itself is at work."""
        if current_request() is not self:
            self.end(GeneratorExit() if self._streams else None)

    def end(self, error: BaseException | None = None) -> None:
        """The answer has ended, whole or not."""
        if self._streams and self.complete and not isinstance(error, Exception):
            error = None  # all has come; the application only did not ask whether there is more
        elif self._streams and not self.complete and error is None and "status" not in self.fields:
            self.fail(error_source="provider", error="IncompleteRead")
        self.fields["tool_calls"] = len(self.tools) or None
        super().end(error)

    def blame(self, error: BaseException) -> None:
        """Notes ``error`` and whose it is."""
        status = getattr(error, "status_code", None)
        if isinstance(error, self._sdk.safety_errors):
            self.fail(error_source="safety", error=error)
        elif isinstance(error, self._sdk.api_errors):
            headers = getattr(getattr(error, "request", None), "headers", {})
            self.retried(headers.get("x-stainless-retry-count"))
            self.fail(error_source="provider", error=error, http_status=_error_status(status))
        elif not isinstance(error, Exception):
            self.fail(error_source="caller", error="CancelledError")
        elif self.understood:  # by the SDK, but not by the application's own parser
            self.fail(error_source="gateway", error=error)
        else:
            self.fail(error_source="provider" if self.answered else "caller", error=error)

    def failed_with(self, error: Any) -> None:
        """The provider reports an error under HTTP 200; its code stands for the class."""
        codes = [get(error, "code"), get(error, "type"), "APIError"]
        known = [code for code in codes if isinstance(code, str) and re.fullmatch(r"[A-Za-z_]{1,64}", code)]
        self.fail(error_source="provider", error=known[0])

    def retried(self, retries: object) -> None:
        """How often the SDK has asked again; absent if it has not."""
        if str(retries).isdecimal():
            self.fields["retries"] = int(str(retries)) or None

    def _read(self, reader: Callable[[SdkCall, Any], None], answer: Any) -> None:
        try:
            reader(self, answer)
        except ValueError:
            pass  # the body of a raw response need not be JSON
        except Exception as error:
            GUARD.failed(self._sdk.name, error)


class _Observer:
    """Stands in for the ``post_parser`` of a request's options; ``theirs`` is the one that was there."""

    def __init__(self, call: SdkCall, theirs: Any) -> None:
        self.call = call
        self._theirs = theirs

    def __call__(self, answer: Any) -> Any:
        _safely(self.call, lambda: self.call.parsed(answer))
        return self._theirs(answer) if callable(self._theirs) else answer


def patch(sdk: Sdk, *clients: type) -> None:
    """Observes every client of these classes and their subclasses, also those that exist. Again: nothing."""
    for client in clients:
        owner = next(base for base in client.__mro__ if "request" in vars(base))
        _replace(owner, "request", lambda original: _observed_request(sdk, original))
        _replace(owner, "_process_response", _observed_response)


def get(thing: Any, name: str) -> Any:
    """A field of an answer, be it a model or plain JSON; None if it has none."""
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def count(value: Any) -> int | None:
    """``value`` if the provider has counted something."""
    return value if type(value) is int and value >= 0 else None


def _replace(owner: type, name: str, wrap: Callable[[Any], Any]) -> None:
    original = vars(owner).get(name)
    if original is not None and not hasattr(original, "tocsin_original"):
        replacement: Any = wraps(original)(wrap(original))
        replacement.tocsin_original = original
        setattr(owner, name, replacement)


def _observed_request(sdk: Sdk, original: Any) -> Any:
    if not inspect.iscoroutinefunction(original):

        def request(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
            call, options = _start(sdk, self, options)
            if call is None:
                return original(self, cast_to, options, *args, **kwargs)
            try:
                result = original(self, cast_to, options, *args, **kwargs)
            except BaseException as error:
                call.end(error)
                raise
            _safely(call, lambda: call.returned(result, is_async=False))
            return result

        return request

    async def async_request(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        call, options = _start(sdk, self, options)
        if call is None:
            return await original(self, cast_to, options, *args, **kwargs)
        try:
            result = await original(self, cast_to, options, *args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        _safely(call, lambda: call.returned(result, is_async=True))
        return result

    return async_request


def _observed_response(original: Any) -> Any:
    def process_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        observer = getattr(kwargs.get("options"), "post_parser", None)
        if isinstance(observer, _Observer):
            observer.call.answered = getattr(kwargs.get("response"), "is_success", False)
            observer.call.retried(kwargs.get("retries_taken"))
        return original(self, *args, **kwargs)

    return process_response


def _start(sdk: Sdk, client: Any, options: Any) -> tuple[SdkCall | None, Any]:
    """The call, if this request is one that nobody else reports, and the options to go on with."""
    try:
        path = str(options.url).partition("?")[0]
        if path not in sdk.operations or options.method.lower() != "post" or current_request() is not None:
            return None, options
        call, observed = SdkCall(sdk, client, options), copy(options)
        observed.post_parser = _Observer(call, options.post_parser)
        return call, observed
    except Exception as error:
        GUARD.failed(sdk.name, error)
        return None, options


def _safely(call: SdkCall, act: Callable[[], None]) -> None:
    try:
        act()
    except Exception as error:
        GUARD.failed(call.fields.get("provider", "ai"), error)


def _on_close(thing: Any, name: str, notify: Callable[[], None]) -> None:
    """Calls ``notify`` before ``thing`` is closed for the first time."""
    close = getattr(thing, name)

    def tocsin_close(*args: Any, **kwargs: Any) -> Any:
        vars(thing).pop(name, None)  # it must not hold on to itself for longer
        notify()
        return close(*args, **kwargs)

    setattr(thing, name, tocsin_close)


#: Part of a client's class name -> OpenTelemetry's name of the provider whose bill it is.
_PLATFORMS = {"Azure": "azure.ai.openai", "Bedrock": "aws.bedrock", "Vertex": "gcp.vertex_ai"}


def _provider(sdk: Sdk, client: object) -> str:
    """Decided by the SDK's own class: what the host calls its subclass says nothing."""
    own = next((c.__name__ for c in type(client).__mro__ if c.__module__.startswith(f"{sdk.name}.")), "")
    return next((name for word, name in _PLATFORMS.items() if word in own), sdk.name)


def _error_status(status: object) -> int | None:
    """An error frame in a stream comes under HTTP 200, which says nothing."""
    return status if isinstance(status, int) and status >= 400 else None
