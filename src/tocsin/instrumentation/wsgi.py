"""`api.request` of any WSGI application, measured until the last byte of its answer was handed over.

The environ's ``tocsin.request`` is a dict in which what lies further in (a framework's instrumentation) puts
fields that it knows: ``route``, ``controller``, ``action``, ``error``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tocsin.guard import GUARD
from tocsin.instrumentation.http import CLIENT_CLOSED, FIELDS_KEY, REQUEST_ID_HEADER, Exchange

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


class RequestMiddleware:
    """Wraps a WSGI application: prints a request line and `api.request` for each of its requests.

    The answer carries the request's id as X-Request-ID. A client that goes away before the end is status 499,
    an exception that escapes, also while the body is produced, is status 500 and goes on to the server. A
    file that the server sends itself (``wsgi.file_wrapper``) is measured until it is handed to the server.
    """

    def __init__(self, app: Application) -> None:
        """``app`` is the application, or what wraps it."""
        self.app = app

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """One request."""
        answer = None if FIELDS_KEY in environ else _answer(environ, start_response)
        if answer is None:
            return self.app(environ, start_response)
        try:
            body = answer.exchange.run(self.app, environ, answer.start)
        except BaseException as error:
            answer.failed(error)
            raise
        if _is_file_of_server(body, environ):
            answer.complete()
            return body
        return _SizedBody(body, answer) if hasattr(type(body), "__len__") else _Body(body, answer)


class _Answer:
    """What becomes of one request's answer."""

    __slots__ = ("_has_body", "_left", "_pieces", "_start_response", "_unwritable", "exchange", "status")

    def __init__(self, exchange: Exchange, has_body: bool, start_response: StartResponse) -> None:
        self.exchange = exchange
        self.status = 500  # until the application says another: a server answers so if it never does
        self._has_body = has_body
        self._left: int | None = None  # bytes of the announced length that are still to come
        self._pieces = 0
        self._start_response = start_response
        self._unwritable = False

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """Stands in for the server's ``start_response``; ``write`` of old applications works too."""
        given = {name.lower(): value for name, value in headers}
        if "x-request-id" not in given:
            headers = [*headers, (REQUEST_ID_HEADER, self.exchange.request_id)]
        write = self._start_response(status, headers, *((exc_info,) if exc_info else ()))
        self.status = _number(status[:3], 500)
        self._left = _number(given.get("content-length", ""), None)
        if given.get("content-type", "").startswith("text/event-stream"):
            self.exchange.fields["streaming"] = True
        self._has_body = self._has_body and self.status >= 200 and self.status not in (204, 304)
        if exc_info and self.status >= 500:
            self.exchange.fields["error"] = exc_info[0].__name__

        def tocsin_write(data: bytes) -> object:
            try:
                return write(data)
            except BaseException:
                self._unwritable = True  # the server's own error: there is nobody to write to
                raise

        return tocsin_write

    def handed_over(self, length: int) -> None:
        """``length`` bytes went to the server; with the last that were announced, the answer is complete."""
        self._pieces += length > 0
        if self._pieces == 2:
            self.exchange.fields["streaming"] = True
        if self._left is not None:
            self._left -= length
            if self._left <= 0:
                self.complete()

    def complete(self) -> None:
        """All went to the server."""
        self.exchange.finish(self.status)

    def failed(self, error: BaseException) -> None:
        """``error`` escaped from the application."""
        if self._unwritable:
            self.exchange.finish(CLIENT_CLOSED)
        else:
            self.exchange.finish(500, error)

    def closed(self) -> None:
        """The server wants no more of the body: before its end only if the client is gone."""
        if self._has_body and self._left is None and self._pieces:
            self.exchange.fields["streaming"] = True  # there would have been more
        self.exchange.finish(CLIENT_CLOSED if self._has_body else self.status)


class _Body:
    """The application's body, as the server takes it piece by piece."""

    __slots__ = ("_answer", "_body", "_chunks")

    def __init__(self, body: Iterable[bytes], answer: _Answer) -> None:
        self._answer = answer
        self._body = body
        self._chunks: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        answer = self._answer
        try:
            if self._chunks is None:
                self._chunks = answer.exchange.run(iter, self._body)
            chunk = answer.exchange.run(next, self._chunks)
        except StopIteration:
            answer.complete()
            raise
        except BaseException as error:
            answer.failed(error)
            raise
        answer.handed_over(len(chunk))
        return chunk

    def close(self) -> None:
        """Passed on, as every WSGI server expects."""
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                self._answer.exchange.run(close)
        finally:
            self._answer.closed()


class _SizedBody(_Body):
    """A body of so many pieces: a server can tell the length of a body of one."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]  # chosen only for what has a length


def _answer(environ: Environ, start_response: StartResponse) -> _Answer | None:
    try:
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        method = environ["REQUEST_METHOD"]
        exchange = Exchange(
            method,
            path.encode("latin-1", "replace").decode("utf-8", "replace"),
            environ.get("HTTP_X_REQUEST_ID"),
            environ.get("HTTP_TRACEPARENT"),
        )
        environ[FIELDS_KEY] = exchange.fields
        return _Answer(exchange, method != "HEAD", start_response)
    except Exception as error:
        GUARD.failed("wsgi", error)
        return None


def _is_file_of_server(body: Iterable[bytes], environ: Environ) -> bool:
    """Whether the server may send ``body`` itself; it knows it by its type, so it must not be wrapped."""
    wrapper = environ.get("wsgi.file_wrapper")
    if wrapper is None:
        return False
    return isinstance(body, wrapper) if isinstance(wrapper, type) else hasattr(body, "read")


def _number(digits: str, otherwise: Any) -> Any:
    return int(digits) if digits.isascii() and digits.isdigit() else otherwise
