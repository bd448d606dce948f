"""AI calls measured by hand: one event for each, printed when the answer is complete, streams included.

    with tocsin.ai.request(provider="openai", model=model) as call:
        answer = ask_provider()
        call.usage(prompt_tokens=answer.prompt_tokens, completion_tokens=answer.completion_tokens)

``request`` (``ai.request``) is for the gateway that asks a provider, ``invocation`` (``ai.invocation``) for
the application that asks the gateway. Both see the same call: never add them up; ``request_id`` links them.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar, Token, copy_context
from threading import Lock
from typing import Any, Literal, Self, TypeVar, overload

from tocsin.emitter import emit, monotonic_ns
from tocsin.guard import GUARD

T = TypeVar("T")

#: Who made a call fail: whoever asked (or went away), a safety filter, the provider, the gateway's own code.
ErrorSource = Literal["caller", "safety", "provider", "gateway"]

#: Errors of these packages say that the other side did not answer, or not with success.
_CLIENT_LIBRARIES = frozenset({"aiohttp", "anthropic", "httpcore", "httpx", "httpx2", "openai", "requests"})


class Call:
    """One AI call; its clock starts here. ``fields`` are the event's: add what else it should say.

    The event is printed once, when the ``with`` block and every :meth:`stream` of the call have ended. It
    carries what was bound where the call began, wherever it ends. No method raises.
    """

    #: Who is to blame for an error of the other side, and for one of our own code.
    remote: ErrorSource = "provider"
    local: ErrorSource = "gateway"

    def __init__(self, event: str, fields: dict[str, Any]) -> None:
        """``event`` is ai.request or ai.invocation."""
        self.event = event
        self.fields = {name: value for name, value in fields.items() if value is not None}
        self._context = copy_context()
        self._started = monotonic_ns()
        self._first_item_ms: float | None = None
        self._open_parts = 0
        self._printed = Lock()

    def usage(
        self,
        *,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        total_tokens: int | None = None,
        estimated: bool = False,
    ) -> None:
        """The tokens that the provider counted; ``estimated`` if somebody else did. Later values win.

        Give what you know. ``tokens`` is the given total, else the sum of both parts, else absent.
        """
        given = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "tokens": total_tokens,
            "estimated": estimated or None,
        }
        self.fields.update((name, value) for name, value in given.items() if value is not None)

    def first_token(self) -> None:
        """The first token has come. Needed only where the first item of :meth:`stream` is none."""
        if "ttft_ms" not in self.fields:
            self.fields["ttft_ms"] = self._elapsed_ms()

    def fail(
        self,
        *,
        error_source: ErrorSource,
        error: str | BaseException | None = None,
        http_status: int | None = None,
    ) -> None:
        """The call has failed; this wins over an exception that escapes later.

        ``error`` is an exception or the name of its class; ``http_status`` is what the provider answered.
        """
        name = type(error).__name__ if isinstance(error, BaseException) else error
        self.fields.update(status="error", error_source=error_source, error=name, http_status=http_status)

    @overload
    def stream(self, items: Iterable[T]) -> Iterator[T]: ...
    @overload
    def stream(self, items: AsyncIterable[T]) -> AsyncIterator[T]: ...
    def stream(self, items: Any) -> Any:
        """The same items. The call lasts until they end, fail, or nobody reads them any more."""
        return AsyncItems(self, items) if isinstance(items, AsyncIterable) else Items(self, items)

    @property
    def ended(self) -> bool:
        """Whether the event is printed."""
        return self._printed.locked()

    def begin(self) -> None:
        """Another part of the call, its block or a stream, is open."""
        self._open_parts += 1

    def end(self, error: BaseException | None = None) -> None:
        """A part has ended, perhaps with ``error``; the last one prints the event."""
        try:
            if error is not None and "status" not in self.fields:
                self.blame(error)
            self._open_parts -= 1
            if self._open_parts <= 0 and self._printed.acquire(blocking=False):
                self._context.run(self._print)
        except Exception as failure:
            GUARD.failed("ai", failure)

    def blame(self, error: BaseException) -> None:
        """Notes ``error`` and whose it is."""
        status = _answered_status(error)
        if not isinstance(error, Exception):
            self.fail(error_source="caller", error="CancelledError")
        elif status is not None or _is_of_the_connection(error):
            self.fail(error_source=self.remote, error=error, http_status=status)
        else:
            self.fail(error_source=self.local, error=error)

    def came(self, item: object) -> None:
        """An item of a stream has come."""
        if self._first_item_ms is None:
            self._first_item_ms = self._elapsed_ms()

    def _print(self) -> None:
        fields = {"status": "success", "ttft_ms": self._first_item_ms, **self.fields}
        fields["duration_ms"] = self._elapsed_ms()
        prompt, completion = fields.get("prompt_tokens"), fields.get("completion_tokens")
        if isinstance(prompt, int) and isinstance(completion, int):
            fields.setdefault("tokens", prompt + completion)
        # A None would hide what is bound, such as the task_type.
        emit(self.event, **{name: value for name, value in fields.items() if value is not None})

    def _elapsed_ms(self) -> float:
        return round((monotonic_ns() - self._started) / 1e6, 3)

    def __enter__(self) -> Self:
        """Opens the block."""
        self.begin()
        self._inside = Inside(self)
        self._inside.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Closes the block; an exception goes on."""
        self._inside.__exit__()
        self.end(error)

    async def __aenter__(self) -> Self:
        """Opens the block."""
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Closes the block; an exception goes on."""
        self.__exit__(kind, error, trace)


class _Invocation(Call):
    remote, local = "gateway", "caller"


def request(*, provider: str, model: str | None = None, task_type: str | None = None, **fields: Any) -> Call:
    """One request of a gateway to a provider: prints ``ai.request``.

    While it is open, calls of an instrumented SDK in it print nothing of their own.
    """
    return Call("ai.request", {**fields, "provider": provider, "model": model, "task_type": task_type})


def invocation(
    *,
    provider: str,
    model: str | None = None,
    mode: Literal["sync", "async", "stream"] = "sync",
    task_type: str | None = None,
    invocation_id: object = None,
    **fields: Any,
) -> Call:
    """One generation as the application that asks the gateway sees it: prints ``ai.invocation``."""
    about = {"mode": mode, "task_type": task_type, "invocation_id": invocation_id}
    return _Invocation("ai.invocation", {**fields, "provider": provider, "model": model, **about})


_current: ContextVar[Call | None] = ContextVar("tocsin_ai_request", default=None)


def current_request() -> Call | None:
    """The :func:`request` whose code runs here, so that nobody else needs to report it."""
    call = _current.get()
    return call if call is not None and not call.ended else None


class Inside:
    """The time in which code of a call runs: its block, or its stream making the next item."""

    __slots__ = ("_call", "_token")
    _token: Token[Call | None]

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> None:
        is_request = self._call.event == "ai.request"
        self._token = _current.set(self._call if is_request else _current.get())

    def __exit__(self, *exc_info: object) -> None:
        with suppress(ValueError):  # left in another context than entered: a generator closed elsewhere
            _current.reset(self._token)


class _Part:
    """A stream as a part of its call, which ends with it, also if it is dropped half read."""

    def __init__(self, call: Call) -> None:
        self._call: Call | None = call
        call.begin()

    def _ended(self, error: BaseException | None = None) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.end(error)

    def __del__(self) -> None:
        if getattr(self, "_call", None) is not None:
            self._ended(GeneratorExit())


class Items(_Part):
    """The items of an iterable, seen by their call."""

    def __init__(self, call: Call, items: Iterable[Any]) -> None:
        self._items = iter(items)
        super().__init__(call)

    def __iter__(self) -> Self:
        """Itself."""
        return self

    def __next__(self) -> Any:
        """The next item."""
        call = self._call
        if call is None:
            return next(self._items)
        try:
            with Inside(call):
                item = next(self._items)
        except BaseException as error:
            self._ended(None if isinstance(error, StopIteration) else error)
            raise
        call.came(item)
        return item

    def close(self) -> None:
        """Nobody reads on; a server calls this when its client has gone."""
        try:
            if close := getattr(self._items, "close", None):
                close()
        finally:
            self._ended(GeneratorExit())


class AsyncItems(_Part):
    """The items of an asynchronous iterable, seen by their call."""

    def __init__(self, call: Call, items: AsyncIterable[Any]) -> None:
        self._items = aiter(items)
        super().__init__(call)

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> Any:
        """The next item."""
        call = self._call
        if call is None:
            return await anext(self._items)
        try:
            with Inside(call):
                item = await anext(self._items)
        except BaseException as error:
            self._ended(None if isinstance(error, StopAsyncIteration) else error)
            raise
        call.came(item)
        return item

    async def aclose(self) -> None:
        """Nobody reads on; a server calls this when its client has gone."""
        try:
            if close := getattr(self._items, "aclose", None):
                await close()
        finally:
            self._ended(GeneratorExit())


def _answered_status(error: BaseException) -> int | None:
    """The HTTP status in an error of httpx, requests or an SDK; None if there is none."""
    with suppress(Exception):  # a property of the host's may raise
        status = error.response.status_code  # type: ignore[attr-defined]
        return status if isinstance(status, int) else None
    return None


def _is_of_the_connection(error: Exception) -> bool:
    packages = {base.__module__.partition(".")[0] for base in type(error).__mro__}
    return isinstance(error, ConnectionError | TimeoutError) or not packages.isdisjoint(_CLIENT_LIBRARIES)
