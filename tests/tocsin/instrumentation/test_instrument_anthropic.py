"""Real clients of the Anthropic SDK against a local provider: one ``ai.request`` per call, come what may."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

import tocsin
from tests.tocsin.ai_provider import COMPLETION, Provider, serve
from tocsin import ai
from tocsin.testing import ListSink, capture_events

PROMPT = "Write to Theodora Testperson, theodora@students.example"
KEY = "sk-ant-canary-9f8e7d6c5b4a"
ASK: dict[str, Any] = {
    "model": "claude-test",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": PROMPT}],
}
#: 500 fresh and 12 cached tokens of the prompt.
USAGE = {"prompt_tokens": 512, "completion_tokens": 300, "tokens": 812}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with serve() as provider:
        yield provider


@pytest.fixture
def captured(provider: Provider) -> Iterator[ListSink]:
    tocsin.instrument("anthropic")
    tocsin.instrument("anthropic")
    provider.requests.clear()
    with capture_events(monotonic=provider.clock) as captured:
        yield captured
    printed = b"".join(captured.lines).decode()
    for secret in ("Theodora", "students.example", KEY, COMPLETION, "Synthia"):
        assert secret not in printed


@pytest.fixture
def client(provider: Provider) -> Iterator[Any]:
    clients: list[anthropic.Anthropic] = []

    def make(behaviour: str = "ok", **options: Any) -> anthropic.Anthropic:
        options = {"api_key": KEY, "max_retries": 0, **options}
        clients.append(anthropic.Anthropic(base_url=provider.url(behaviour, ""), **options))
        return clients[-1]

    yield make
    for made in clients:
        made.close()


def only(captured: ListSink) -> dict[str, Any]:
    [event] = captured.events
    assert event.pop("metric") == "ai.request"
    for name in ("timestamp", "service", "environment"):
        del event[name]
    return event


def success(**fields: Any) -> dict[str, Any]:
    base = {"provider": "anthropic", "model": "claude-test", "status": "success"}
    return {**base, "duration_ms": 350.0, "tool_calls": 1, **fields}


def error(name: str, source: str = "provider", **fields: Any) -> dict[str, Any]:
    base = {"provider": "anthropic", "model": "claude-test", "status": "error"}
    return {**base, "error": name, "error_source": source, **fields}


def test_a_message(client: Any, captured: ListSink) -> None:
    with tocsin.bind(request_id="r-1", tenant_id=7, task_type="assessment"):
        answer = client().messages.create(**ASK)
    assert type(answer) is anthropic.types.Message
    assert only(captured) == success(**USAGE, request_id="r-1", tenant_id=7, task_type="assessment")


def test_beta_and_raw(client: Any, captured: ListSink) -> None:
    made = client()
    made.beta.messages.create(**ASK)
    assert made.messages.with_raw_response.create(**ASK).parse().usage.output_tokens == 300
    with made.messages.with_streaming_response.create(**ASK) as response:
        assert response.json()["usage"]["output_tokens"] == 300
    assert [event.get("tokens") for event in captured.events] == [812, 812, None]


def test_a_stream(client: Any, captured: ListSink) -> None:
    stream = client().messages.create(**ASK, stream=True)
    assert isinstance(stream, anthropic.Stream)
    assert next(stream).type == "message_start"
    assert captured.events == []
    assert [item.type for item in stream][-1] == "message_stop"
    assert only(captured) == success(**USAGE, ttft_ms=250.0)


def test_the_stream_helper(client: Any, captured: ListSink) -> None:
    with client().messages.stream(**ASK) as stream:
        assert "".join(stream.text_stream) == COMPLETION
        assert stream.get_final_message().usage.output_tokens == 300
    assert only(captured) == success(**USAGE, ttft_ms=250.0)


def test_async(provider: Provider, captured: ListSink) -> None:
    async def main() -> None:
        url = provider.url("ok", "")
        async with anthropic.AsyncAnthropic(api_key=KEY, base_url=url) as client:
            await client.messages.create(**ASK)
            async with client.messages.stream(**ASK) as stream:
                assert [text async for text in stream.text_stream] == [COMPLETION]
            raw = await client.messages.with_raw_response.create(**ASK, stream=True)
            assert len([item async for item in await raw.parse()]) == 8
            async with client.messages.with_streaming_response.create(**ASK) as response:
                await response.parse()
            async with client.messages.stream(**ASK) as stream:
                await anext(aiter(stream))

    asyncio.run(main())
    *whole, left = [(event["status"], event.get("tokens"), event.get("ttft_ms")) for event in captured.events]
    plain, streamed = ("success", 812, None), ("success", 812, 250.0)
    assert whole == [plain, streamed, streamed, plain]
    assert left == ("error", None, None)
    assert captured.events[-1]["error_source"] == "caller"


@pytest.mark.parametrize(
    ("behaviour", "name", "status"),
    [
        ("401", "AuthenticationError", 401),
        ("429", "RateLimitError", 429),
        ("500", "InternalServerError", 500),
        ("529", "OverloadedError", 529),
    ],
)
def test_the_provider_refuses(
    client: Any, captured: ListSink, behaviour: str, name: str, status: int
) -> None:
    with pytest.raises(anthropic.APIStatusError):
        client(behaviour).messages.create(**ASK)
    assert only(captured) == error(name, http_status=status, duration_ms=0.0)


def test_the_provider_hangs_up(client: Any, captured: ListSink) -> None:
    with pytest.raises(anthropic.APIConnectionError):
        client("hang-up", max_retries=1).messages.create(**ASK)
    assert only(captured) == error("APIConnectionError", duration_ms=0.0, retries=1)


def test_retries_are_one_event(client: Any, captured: ListSink, provider: Provider) -> None:
    client("flaky", max_retries=3).messages.create(**ASK)
    assert provider.requests["flaky"] == 3
    assert only(captured) == success(**USAGE, retries=2)


def test_middleware_changes_nothing(client: Any, captured: ListSink) -> None:
    def passes_on(request: Any, call_next: Any) -> Any:
        return call_next(request)

    made = client("flaky", max_retries=3, middleware=[passes_on])
    made.messages.create(**ASK)
    assert list(made.messages.create(**ASK, stream=True))[-1].type == "message_stop"
    with pytest.raises(anthropic.RateLimitError):
        client("429", middleware=[passes_on]).messages.create(**ASK)
    seen = [(event["status"], event.get("tokens"), event.get("retries")) for event in captured.events]
    assert seen == [("success", 812, 2), ("success", 812, None), ("error", None, None)]


def test_arguments_that_cannot_be_sent(client: Any, captured: ListSink) -> None:
    with pytest.raises(TypeError):
        client().messages.create(**{**ASK, "messages": [{"role": "user", "content": object()}]})
    assert only(captured) == error("TypeError", "caller", duration_ms=0.0)


@pytest.mark.parametrize(
    ("behaviour", "name"),
    [("cut", "RemoteProtocolError"), ("error-frame", "APIStatusError"), ("garbage", "JSONDecodeError")],
)
def test_a_stream_that_breaks(client: Any, captured: ListSink, behaviour: str, name: str) -> None:
    stream = client(behaviour).messages.create(**ASK, stream=True)
    with pytest.raises(Exception) as raised:
        list(stream)
    assert type(raised.value).__name__ == name
    began = {"prompt_tokens": 512, "ttft_ms": 250.0, "duration_ms": 350.0, "tool_calls": 1}
    assert only(captured) == error(name, **began)


def test_a_stream_that_stops_in_the_middle(client: Any, captured: ListSink) -> None:
    list(client("stops").messages.create(**ASK, stream=True))
    event = only(captured)
    assert (event["error"], event["error_source"]) == ("IncompleteRead", "provider")


def test_nothing_inside_a_gateway_request(client: Any, captured: ListSink) -> None:
    async def chunks() -> Any:  # runs after the block, as a streamed answer does
        with client().messages.stream(**ASK) as stream:
            for text in stream.text_stream:
                yield text

    async def main() -> list[str]:
        async with ai.request(provider="anthropic", model="by hand") as call:
            answer = call.stream(chunks())
        return [text async for text in answer]

    assert asyncio.run(main()) == [COMPLETION]
    assert only(captured)["model"] == "by hand"


def test_counting_tokens_is_no_ai_request(client: Any, captured: ListSink) -> None:
    with pytest.raises(anthropic.APIStatusError):
        client("500").messages.count_tokens(model="claude-test", messages=ASK["messages"])
    assert captured.events == []
