"""A provider on a local port that speaks both protocols, OpenAI's and Anthropic's, well and badly.

The first segment of the base URL says how it behaves: ``provider.url("429")``. Time is the test's: before the
first token of a stream 250 ms pass on ``clock``, after it another 100 ms, once the client has looked at the
clock ("ahead": without waiting for that).
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMPLETION = "Synthia Sample reads on page 12"

OPENAI_USAGE = {"prompt_tokens": 512, "completion_tokens": 300, "total_tokens": 812}
RESPONSE_USAGE = {"input_tokens": 512, "output_tokens": 300, "total_tokens": 812}
ANTHROPIC_USAGE = {"input_tokens": 500, "cache_read_input_tokens": 12, "output_tokens": 300}

TOOL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}


def completion(**message: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": COMPLETION, **message}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**_base("chat.completion"), "choices": [choice], "usage": OPENAI_USAGE}


def response(**fields: Any) -> dict[str, Any]:
    text = {"type": "output_text", "text": COMPLETION, "annotations": []}
    message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [text]}
    call = {"type": "function_call", "call_id": "c", "name": "look_up", "arguments": "{}"}
    whole = {"status": "completed", "output": [message, call], "usage": RESPONSE_USAGE, "error": None}
    rest = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "created_at": 1}
    return {**_base("response"), **rest, **whole, **fields}


def message(*content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    base = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test"}
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    return {**base, **stop, "content": [*content], "usage": ANTHROPIC_USAGE, **fields}


def _base(kind: str) -> dict[str, Any]:
    return {"id": "x-1", "object": kind, "created": 1, "model": "answered-model"}


def _chunk(usage: Any = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {**_base("chat.completion.chunk"), "choices": choices, "usage": usage}


def _chat_frames(asked: dict[str, Any]) -> Iterator[Any]:
    yield _chunk(role="assistant", content="")
    yield "first"
    yield _chunk(content=COMPLETION)
    for arguments in ("{", "}"):
        function = {"name": "look_up", "arguments": arguments}
        yield _chunk(tool_calls=[{"index": 0, "id": "c", "type": "function", "function": function}])
    yield "middle"
    yield _chunk(finish="stop")
    if (asked.get("stream_options") or {}).get("include_usage"):
        yield _chunk(usage=OPENAI_USAGE)
    yield "[DONE]"


def _response_frames(asked: dict[str, Any]) -> Iterator[Any]:
    yield {"type": "response.created", "sequence_number": 0, "response": response(output=[], usage=None)}
    item = {"type": "message", "id": "m", "role": "assistant", "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": item}
    place = {"item_id": "m", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    yield {"type": "response.content_part.added", "sequence_number": 2, "part": part, **place}
    yield "first"
    delta = {"delta": COMPLETION, "logprobs": [], **place}
    yield {"type": "response.output_text.delta", "sequence_number": 3, **delta}
    yield "middle"
    yield {"type": "response.completed", "sequence_number": 4, "response": response()}


def _message_frames(asked: dict[str, Any]) -> Iterator[Any]:
    usage = {**ANTHROPIC_USAGE, "output_tokens": 1}
    yield {"type": "message_start", "message": message(stop_reason=None, usage=usage)}
    text = {"type": "text", "text": ""}
    yield {"type": "content_block_start", "index": 0, "content_block": text}
    yield "first"
    yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": COMPLETION}}
    yield {"type": "content_block_stop", "index": 0}
    tool = {"type": "tool_use", "id": "t", "name": "look_up", "input": {}}
    yield {"type": "content_block_start", "index": 1, "content_block": tool}
    yield {"type": "content_block_stop", "index": 1}
    yield "middle"
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 300}}
    yield {"type": "message_stop"}


_FRAMES = {"completions": _chat_frames, "responses": _response_frames, "messages": _message_frames}
_EMBEDDING = {
    "object": "list",
    "model": "e",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "usage": {"prompt_tokens": 7, "total_tokens": 7},
}
_TOOL_USE = {"type": "tool_use", "id": "t", "name": "look_up", "input": {}}
_ANSWERS = {
    "completions": lambda: completion(tool_calls=[TOOL]),
    "responses": response,
    "messages": lambda: message({"type": "text", "text": COMPLETION}, _TOOL_USE),
    "embeddings": lambda: _EMBEDDING,
}


class Provider(ThreadingHTTPServer):
    """Counts its requests by behaviour; ``bodies`` are what it was asked."""

    daemon_threads = True
    clock_ns = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.clock_read = threading.Event()

    def url(self, behaviour: str, version: str = "/v1") -> str:
        return f"http://127.0.0.1:{self.server_port}/{behaviour}{version}"

    def clock(self) -> int:
        self.clock_read.set()
        return self.clock_ns

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients of these tests go away on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        path = self.path.partition("?")[0].strip("/").split("/")
        behaviour, operation = path[0], path[-1]
        self.server.requests[behaviour] += 1
        self.server.bodies.append(asked)
        if behaviour == "flaky":
            behaviour = "ok" if self.server.requests["flaky"] > 2 else "429"
        if behaviour.isdecimal():
            self._error(int(behaviour))
        elif behaviour == "hang-up":
            self.close_connection = True
        elif behaviour == "not-json":
            self._answer(200, b"{<html>")
        elif behaviour == "error-in-200":
            self._answer(
                200, _dumps({**_base("x"), "error": {"code": "server_error", "message": COMPLETION}})
            )
        elif asked.get("stream"):
            self._stream(behaviour, operation, _FRAMES[operation](asked))
        else:
            self.server.clock_ns += 350_000_000
            answer = _ANSWERS[operation]()
            self._answer(200, _dumps({**answer, "usage": None} if behaviour == "no-usage" else answer))

    def _error(self, status: int) -> None:
        error = {"type": "overloaded_error", "message": f"{COMPLETION}: {self.headers['authorization']}"}
        self._answer(status, _dumps({"type": "error", "error": error}), ("retry-after-ms", "1"))

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (("content-type", "application/json"), ("retry-after", "0.001"), *headers):
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, behaviour: str, operation: str, frames: Iterator[Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for frame in frames:
            if frame == "first":
                self.server.clock_ns += 250_000_000
                self.server.clock_read.clear()
            elif frame == "middle":
                assert behaviour == "ahead" or self.server.clock_read.wait(10)
                self.server.clock_ns += 100_000_000
                if not self._spoil(behaviour, operation):
                    return
            else:
                self._frame(frame)
        self.wfile.write(b"0\r\n\r\n")

    def _spoil(self, behaviour: str, operation: str) -> bool:
        """What goes wrong in the middle; False: the stream is over."""
        if behaviour == "hangs":
            self.rfile.read(1)  # until the client goes away
        if behaviour in ("cut", "hangs"):
            self.close_connection = True
            return False
        if behaviour == "stops":
            self.wfile.write(b"0\r\n\r\n")
            return False
        if behaviour == "garbage":
            self._frame("{not json", "message_delta")
        elif behaviour == "error-frame":
            error = {"type": "overloaded_error", "code": "server_error", "message": COMPLETION}
            body = (
                {**error, "type": "error"} if operation == "responses" else {"type": "error", "error": error}
            )
            self._frame(body)
        return True

    def _frame(self, frame: Any, kind: str = "") -> None:
        kind = frame.get("type", "") if isinstance(frame, dict) else kind
        data = frame if isinstance(frame, str) else json.dumps(frame)
        event = f"event: {kind}\n" if kind else ""
        text = f"{event}data: {data}\n\n".encode()
        self.wfile.write(f"{len(text):x}\r\n".encode() + text + b"\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


@contextmanager
def serve() -> Iterator[Provider]:
    with Provider() as provider:
        thread = threading.Thread(target=provider.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield provider
        finally:
            provider.shutdown()
            thread.join()
