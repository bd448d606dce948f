"""Content that is produced while it is sent: it runs in its request, which ends with it."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncIterator, Iterator
from typing import Any

from tocsin.instrumentation.http import Exchange


class _Stream:
    """An iterator around the application's own; :meth:`close` tells that nobody will ask for more."""

    __slots__ = ("_at_close", "_chunks", "_exchange", "_status")

    def __init__(self, chunks: Any, exchange: Exchange, status: int, at_close: int) -> None:
        """``status`` is the answer's, ``at_close`` the one that counts if it is closed before its end."""
        self._chunks = chunks
        self._exchange = exchange
        self._status = status
        self._at_close = at_close

    def close(self) -> None:
        """Does not close the application's iterator: whoever made it does."""
        self._exchange.finish(self._at_close)


class SyncStream(_Stream):
    """For an iterator; an exception is status 500 and goes on."""

    __slots__ = ()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            chunk: bytes = self._exchange.run(next, self._chunks)
        except StopIteration:
            self._exchange.finish(self._status)
            raise
        except BaseException as error:
            self._exchange.finish(500, error)
            raise
        return chunk


class AsyncStream(_Stream):
    """For an asynchronous iterator; cancelled, it is closed before its end."""

    __slots__ = ()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk: bytes = await self._exchange.run_async(anext, self._chunks)
        except StopAsyncIteration:
            self._exchange.finish(self._status)
            raise
        except CancelledError:
            self._exchange.finish(self._at_close)
            raise
        except BaseException as error:
            self._exchange.finish(500, error)
            raise
        return chunk
