"""AI calls measured by hand: by a gateway and by what calls it."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import fastapi
import httpx
import openai
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

import tocsin
import tocsin.ai
from tests.tocsin import ai_provider, snippets
from tocsin.ai import Call
from tocsin.testing import ListSink, capture_events

SECRETS = ("Theodora", "students.example", "sk-canary-1", ai_provider.COMPLETION)


class Clock:
    """Each look at it is 100 ms later."""

    def __init__(self) -> None:
        self.ns = -100_000_000

    def __call__(self) -> int:
        self.ns += 100_000_000
        return self.ns


@pytest.fixture
def captured() -> Iterator[ListSink]:
    with capture_events(monotonic=Clock()) as captured:
        yield captured
    printed = b"".join(captured.lines).decode()
    assert [secret for secret in SECRETS if secret in printed] == []


def ask(**fields: Any) -> Call:
    return tocsin.ai.request(provider="openai", model="gpt-test", **fields)


def only(captured: ListSink) -> dict[str, Any]:
    [event] = captured.events
    for name in ("timestamp", "service", "environment"):
        del event[name]
    return {**event.pop("tags", {}), **event}


def outcome(captured: ListSink) -> tuple[Any, ...]:
    event = only(captured)
    return event["status"], event.get("error"), event.get("error_source"), event.get("http_status")


LEFT = ("error", "CancelledError", "caller", None)


def test_a_request(captured: ListSink) -> None:
    with tocsin.bind(request_id="r-1", task_type="bound"), ask(task_type="lesson_plan") as call:
        call.usage(prompt_tokens=512, completion_tokens=300)
    assert only(captured) == {
        "metric": "ai.request",
        "provider": "openai",
        "model": "gpt-test",
        "tokens": 812,
        "duration_ms": 100.0,
        "status": "success",
        "task_type": "lesson_plan",
        "request_id": "r-1",
        "prompt_tokens": 512,
        "completion_tokens": 300,
    }


def test_what_is_bound_is_used_for_what_is_not_given(captured: ListSink) -> None:
    with tocsin.bind(task_type="rewrite"), ask():
        pass
    assert only(captured)["task_type"] == "rewrite"


def test_an_invocation(captured: ListSink) -> None:
    with tocsin.ai.invocation(provider="openai", mode="stream", invocation_id=4711) as call:
        call.usage(completion_tokens=75, estimated=True)
    assert only(captured) == {
        "metric": "ai.invocation",
        "provider": "openai",
        "duration_ms": 100.0,
        "status": "success",
        "invocation_id": 4711,
        "mode": "stream",
        "completion_tokens": 75,
        "estimated": True,
    }


numbers = st.none() | st.integers(0, 10**6)


@given(prompt=numbers, completion=numbers, total=numbers)
def test_tokens_are_given_or_a_sum_or_absent(
    prompt: int | None, completion: int | None, total: int | None
) -> None:
    with capture_events() as captured, ask() as call:
        call.usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=total)
    whole = None if prompt is None or completion is None else prompt + completion
    assert only(captured).get("tokens") == (whole if total is None else total)


def _raised(error: BaseException, make: Any = ask) -> None:
    with pytest.raises(type(error)) as raised, make():
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ConnectTimeout("Theodora"), ("error", "ConnectTimeout", "provider", None)),
        (ConnectionResetError(), ("error", "ConnectionResetError", "provider", None)),
        (KeyError("theodora@students.example"), ("error", "KeyError", "gateway", None)),
        (asyncio.CancelledError(), LEFT),
        (GeneratorExit(), LEFT),
    ],
)
def test_an_exception_goes_on_and_says_whose_it_is(captured: ListSink, error: Any, expected: Any) -> None:
    _raised(error)
    assert outcome(captured) == expected


def test_an_answered_error_has_its_status(captured: ListSink) -> None:
    request = httpx.Request("POST", "http://127.0.0.1/")
    refused = httpx.HTTPStatusError("sk-canary-1", request=request, response=httpx.Response(429))
    _raised(refused)
    assert outcome(captured) == ("error", "HTTPStatusError", "provider", 429)


def test_on_the_calling_side_the_other_side_is_the_gateway(captured: ListSink) -> None:
    _raised(httpx.ReadTimeout(""), lambda: tocsin.ai.invocation(provider="openai"))
    assert outcome(captured)[1:3] == ("ReadTimeout", "gateway")


def test_fail_wins_over_what_is_raised(captured: ListSink) -> None:
    call = ask()
    call.fail(error_source="safety", error="BlockedOutput", http_status=422)
    _raised(fastapi.HTTPException(422, "Theodora"), lambda: call)
    assert outcome(captured) == ("error", "BlockedOutput", "safety", 422)


def test_an_error_whose_properties_raise(captured: ListSink) -> None:
    class HostileError(Exception):
        @property
        def response(self) -> None:
            raise RuntimeError

    _raised(HostileError())
    assert outcome(captured) == ("error", "HostileError", "gateway", None)


# --- streams ---


def test_a_stream_ends_its_call(captured: ListSink) -> None:
    items = ask().stream(iter("abc"))
    assert next(items) == "a"
    assert captured.events == []
    assert list(items) == ["b", "c"]
    event = only(captured)
    assert (event["status"], event["ttft_ms"], event["duration_ms"]) == ("success", 100.0, 200.0)


def test_a_block_that_ends_before_its_stream(captured: ListSink) -> None:
    with ask() as call:
        items = call.stream(iter("abc"))
    assert captured.events == []
    list(items)
    assert only(captured)["status"] == "success"


def test_a_block_that_ends_after_its_stream_may_still_count(captured: ListSink) -> None:
    with ask() as call:
        list(call.stream(iter("abc")))
        call.usage(total_tokens=3)
    assert only(captured)["tokens"] == 3


def test_the_first_token_need_not_be_the_first_item(captured: ListSink) -> None:
    call = ask()

    def items() -> Iterator[str]:
        yield "started"
        call.first_token()
        yield "token"

    list(call.stream(items()))
    assert only(captured)["ttft_ms"] == 200.0


def test_an_exception_of_the_stream(captured: ListSink) -> None:
    def items() -> Iterator[str]:
        yield "a"
        raise httpx.RemoteProtocolError("Theodora")

    with pytest.raises(httpx.RemoteProtocolError):
        list(ask().stream(items()))
    assert outcome(captured) == ("error", "RemoteProtocolError", "provider", None)


@pytest.mark.parametrize("how", ["close", "drop"])
@pytest.mark.parametrize("read", [0, 1])
def test_a_reader_that_goes_away(captured: ListSink, how: str, read: int) -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    stream: Any = ask().stream(items())
    for _ in range(read):
        next(stream)
    if how == "close":
        stream.close()
        stream.close()
    del stream
    gc.collect()
    assert outcome(captured) == LEFT
    assert closed == [True] * read


def test_a_stream_that_is_read_on_after_its_end(captured: ListSink) -> None:
    items = ask().stream(iter("a"))
    assert [*items, *items] == ["a"]
    assert only(captured)["status"] == "success"


async def _forever() -> AsyncIterator[str]:
    yield "a"
    await asyncio.Event().wait()


def test_a_cancelled_reader(captured: ListSink) -> None:
    async def main() -> None:
        async with ask() as call:
            stream = call.stream(_forever())
            await anext(stream)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0)

    asyncio.run(main())
    assert outcome(captured) == LEFT


def test_an_asynchronous_stream_that_is_closed(captured: ListSink) -> None:
    async def main() -> None:
        stream: Any = ask().stream(_forever())
        await anext(stream)
        await stream.aclose()
        await stream.aclose()

    asyncio.run(main())
    assert outcome(captured) == LEFT


def test_S10_a_stream_keeps_the_request_that_began_it(captured: ListSink) -> None:
    with tocsin.bind(request_id="r-1"):
        stream = ask().stream(iter("a"))

    def elsewhere() -> None:
        with tocsin.bind(request_id="r-2", user_id=812):
            list(stream)

    thread = threading.Thread(target=contextvars.Context().run, args=(elsewhere,))
    thread.start()
    thread.join()
    event = only(captured)
    assert event["request_id"] == "r-1"
    assert "user_id" not in event


def test_only_code_of_the_request_counts_as_inside(captured: ListSink) -> None:
    seen = []

    def items() -> Iterator[str]:
        seen.append(tocsin.ai.current_request())
        yield "a"

    call = ask()
    stream = call.stream(items())
    next(stream)
    with tocsin.ai.invocation(provider="openai"):
        seen.append(tocsin.ai.current_request())
    with call:
        seen.append(tocsin.ai.current_request())
    list(stream)
    assert seen == [call, None, call]


# --- the page, against real servers ---


@contextmanager
def _served(app: Any) -> Iterator[str]:
    config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _body(asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": asked["model"], "messages": [{"role": "user", "content": asked["prompt"]}], **more}


ASKED = {"model": "gpt-test", "task_type": "assessment", "prompt": "Theodora, theodora@students.example"}


@contextmanager
def _gateway(behaviour: str) -> Iterator[tuple[str, ListSink]]:
    with ai_provider.serve() as provider, capture_events(monotonic=provider.clock) as captured:
        names = snippets.run("instrumentation/ai.md", 2, PROVIDER_URL=provider.url(behaviour), body=_body)
        with _served(names["app"]) as url:
            yield url, captured
            asyncio.run(names["provider"].aclose())
    printed = b"".join(captured.lines).decode()
    assert [secret for secret in SECRETS if secret in printed] == []


def test_the_gateway_of_the_page() -> None:
    with _gateway("ok") as (url, captured):
        assert httpx.post(f"{url}/v1/generate", json=ASKED).json()["content"] == ai_provider.COMPLETION
        answer = httpx.post(f"{url}/v1/generate_stream", json=ASKED)
        assert ai_provider.COMPLETION in answer.text
    whole, stream = captured.events
    assert (whole["status"], whole["tokens"], whole["task_type"]) == ("success", 812, "assessment")
    assert (stream["status"], stream["ttft_ms"], stream["duration_ms"]) == ("success", 250.0, 350.0)
    assert "tokens" not in stream


def test_the_gateway_of_the_page_when_the_provider_refuses() -> None:
    with _gateway("429") as (url, captured):
        assert httpx.post(f"{url}/v1/generate", json=ASKED).status_code == 429
        assert "event: error" in httpx.post(f"{url}/v1/generate_stream", json=ASKED).text
    failures = [(e["error"], e["error_source"], e["http_status"]) for e in captured.events]
    assert failures == [("ProviderError", "provider", 429)] * 2


def test_the_gateway_of_the_page_when_its_client_disconnects() -> None:
    with _gateway("hangs") as (url, captured):
        with httpx.stream("POST", f"{url}/v1/generate_stream", json=ASKED) as answer:
            assert next(answer.iter_lines())
        deadline = time.monotonic() + 10
        while not captured.lines and time.monotonic() < deadline:
            time.sleep(0.01)
    assert outcome(captured) == LEFT


def test_the_calling_side_of_the_page(captured: ListSink) -> None:
    app = fastapi.FastAPI()
    app.post("/v1/generate")(lambda: {"content": ai_provider.COMPLETION})
    with _served(app) as url:
        snippets.run("instrumentation/ai.md", 3, GATEWAY_URL=url, asked=ASKED)
        with pytest.raises(httpx.HTTPStatusError):
            snippets.run("instrumentation/ai.md", 3, GATEWAY_URL=f"{url}/nowhere", asked=ASKED)
    good, bad = (event["tags"] for event in captured.events)
    assert (good["status"], good["invocation_id"], good["mode"]) == ("success", 4711, "sync")
    assert (bad["status"], bad["error_source"], bad["http_status"]) == ("error", "gateway", 404)


def test_the_sdks_of_the_page() -> None:
    messages = [{"role": "user", "content": ASKED["prompt"]}]
    with ai_provider.serve() as provider, anthropic.Anthropic(api_key="sk-canary-1") as other:
        snippets.run("instrumentation/ai.md", 0)
        url = provider.url("ok")
        with capture_events() as captured, openai.OpenAI(api_key="sk-canary-1", base_url=url) as client:
            snippets.run("instrumentation/ai.md", 1, tocsin=tocsin, openai_client=client, messages=messages)
            other.copy(base_url=provider.url("ok", "")).messages.create(
                model="claude-test",
                max_tokens=9,
                messages=messages,  # type: ignore[arg-type]
            )
    first, second = captured.events
    assert (first["task_type"], first["tokens"], first["model"]) == ("lesson_plan", 812, "gpt-4o-mini")
    assert (second["provider"], second["tokens"]) == ("anthropic", 812)
