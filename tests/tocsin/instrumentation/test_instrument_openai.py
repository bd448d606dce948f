"""Real clients of the OpenAI SDK against a local provider: one ``ai.request`` per call, come what may."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

import tocsin
from tests.tocsin.ai_provider import COMPLETION, Provider, serve
from tocsin import ai
from tocsin.testing import ListSink, capture_events

PROMPT = "Write to Theodora Testperson, theodora@students.example"
KEY = "sk-canary-9f8e7d6c5b4a"
CHAT: dict[str, Any] = {"model": "gpt-test", "messages": [{"role": "user", "content": PROMPT}]}
USAGE = {"prompt_tokens": 512, "completion_tokens": 300, "tokens": 812}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with serve() as provider:
        yield provider


@pytest.fixture
def captured(provider: Provider) -> Iterator[ListSink]:
    tocsin.instrument("openai")
    tocsin.instrument("openai")
    provider.requests.clear()
    with capture_events(monotonic=provider.clock) as captured:
        yield captured
    printed = b"".join(captured.lines).decode()
    for secret in ("Theodora", "students.example", KEY, COMPLETION, "Synthia"):
        assert secret not in printed


@pytest.fixture
def client(provider: Provider) -> Iterator[Any]:
    clients: list[openai.OpenAI] = []

    def make(behaviour: str = "ok", **options: Any) -> openai.OpenAI:
        options = {"api_key": KEY, "max_retries": 0, **options}
        clients.append(openai.OpenAI(base_url=provider.url(behaviour), **options))
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
    return {"provider": "openai", "model": "gpt-test", "status": "success", "duration_ms": 350.0, **fields}


def error(name: str, source: str = "provider", **fields: Any) -> dict[str, Any]:
    base = {"provider": "openai", "model": "gpt-test", "status": "error"}
    return {**base, "error": name, "error_source": source, **fields}


def test_a_completion(client: Any, captured: ListSink) -> None:
    with tocsin.bind(request_id="r-1", tenant_id=7, task_type="lesson_plan"):
        answer = client().chat.completions.create(**CHAT)
    assert type(answer).__name__ == "ChatCompletion"
    assert answer.choices[0].message.content == COMPLETION
    context = {"request_id": "r-1", "tenant_id": 7, "task_type": "lesson_plan"}
    assert only(captured) == success(**USAGE, **context, tool_calls=1)


def test_a_response(client: Any, captured: ListSink) -> None:
    client().responses.create(model="gpt-test", input=PROMPT)
    assert only(captured) == success(**USAGE, tool_calls=1)


def test_an_embedding_has_no_completion_tokens(client: Any, captured: ListSink) -> None:
    client().embeddings.create(model="gpt-test", input=PROMPT, encoding_format="float")
    assert only(captured) == success(prompt_tokens=7, tokens=7)


def test_tokens_that_the_provider_did_not_give_are_absent(client: Any, captured: ListSink) -> None:
    client("no-usage").chat.completions.create(**CHAT)
    assert only(captured) == success(tool_calls=1)


def test_async(provider: Provider, captured: ListSink) -> None:
    async def main() -> None:
        url = provider.url("ok")
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url) as client:
            assert (await client.chat.completions.create(**CHAT)).usage is not None
            stream = await client.chat.completions.create(**CHAT, stream=True)
            assert isinstance(stream, openai.AsyncStream)
            async with stream:
                assert len([chunk async for chunk in stream]) == 5
            raw = await client.chat.completions.with_raw_response.create(**CHAT)
            assert raw.parse().usage is not None
            async with client.chat.completions.with_streaming_response.create(**CHAT) as response:
                await response.parse()
            with pytest.raises(openai.NotFoundError):
                await client.copy(base_url=provider.url("404")).chat.completions.create(**CHAT)

    asyncio.run(main())
    statuses = [(event["status"], event.get("tokens"), event.get("ttft_ms")) for event in captured.events]
    plain = ("success", 812, None)
    assert statuses == [plain, ("success", None, 250.0), plain, plain, ("error", None, None)]


def test_a_stream(client: Any, captured: ListSink, provider: Provider) -> None:
    stream = client().chat.completions.create(**CHAT, stream=True)
    assert isinstance(stream, openai.Stream)
    assert next(stream).choices[0].delta.content == ""
    assert captured.events == []
    assert [chunk.choices[0].finish_reason for chunk in stream][-1] == "stop"
    assert only(captured) == success(ttft_ms=250.0, tool_calls=1)
    assert "stream_options" not in provider.bodies[-1]


def test_a_stream_with_usage(client: Any, captured: ListSink) -> None:
    options = {"stream_options": {"include_usage": True}}
    with client().chat.completions.create(**CHAT, **options, stream=True) as stream:
        assert list(stream)[-1].usage.total_tokens == 812
    assert only(captured) == success(**USAGE, ttft_ms=250.0, tool_calls=1)


def test_the_stream_helpers(client: Any, captured: ListSink) -> None:
    with client().chat.completions.stream(**CHAT) as stream:
        assert stream.get_final_completion().choices[0].message.content == COMPLETION
    with client().responses.stream(model="gpt-test", input=PROMPT) as stream:
        assert stream.get_final_response().usage.total_tokens == 812
    chat, response = captured.events
    assert (chat["status"], chat["ttft_ms"], chat["tool_calls"]) == ("success", 250.0, 1)
    assert (response["status"], response["ttft_ms"], response["tokens"]) == ("success", 250.0, 812)


def test_parse(client: Any, captured: ListSink) -> None:
    class Plan(BaseModel):
        title: str

    with pytest.raises(ValueError):  # the answer came, and is no Plan
        client().chat.completions.parse(**CHAT, response_format=Plan)
    assert only(captured) == error("ValidationError", "gateway", **USAGE, duration_ms=350.0, tool_calls=1)


def test_raw_responses(client: Any, captured: ListSink) -> None:
    completions = client().chat.completions
    raw = completions.with_raw_response.create(**CHAT)
    assert raw.headers["content-type"] == "application/json"
    assert raw.parse().usage.total_tokens == 812
    with completions.with_streaming_response.create(**CHAT) as response:
        assert response.parse().usage.total_tokens == 812
        assert len(captured.events) == 1
    assert [(event["status"], event["tokens"]) for event in captured.events] == [("success", 812)] * 2


def test_raw_responses_of_streams(client: Any, captured: ListSink) -> None:
    completions = client().chat.completions
    assert len(list(completions.with_raw_response.create(**CHAT, stream=True).parse())) == 5
    with completions.with_streaming_response.create(**CHAT, stream=True) as response:
        assert len(list(response.parse())) == 5
    ahead = client("ahead").chat.completions
    with ahead.with_streaming_response.create(**CHAT, stream=True) as response:
        assert any("[DONE]" in line for line in response.iter_lines())
    seen = [(event["status"], event.get("ttft_ms")) for event in captured.events]
    assert seen == [("success", 250.0), ("success", 250.0), ("success", None)]


@pytest.mark.parametrize(
    ("behaviour", "name", "status"),
    [
        ("401", "AuthenticationError", 401),
        ("429", "RateLimitError", 429),
        ("500", "InternalServerError", 500),
        ("529", "InternalServerError", 529),
    ],
)
def test_the_provider_refuses(
    client: Any, captured: ListSink, behaviour: str, name: str, status: int
) -> None:
    with pytest.raises(getattr(openai, name)) as raised:
        client(behaviour).chat.completions.create(**CHAT)
    assert raised.value.__context__ is None or raised.value.__suppress_context__
    assert only(captured) == error(name, http_status=status, duration_ms=0.0)


def test_the_provider_hangs_up(client: Any, captured: ListSink) -> None:
    with pytest.raises(openai.APIConnectionError):
        client("hang-up").chat.completions.create(**CHAT)
    assert only(captured) == error("APIConnectionError", duration_ms=0.0)


def test_retries_are_one_event(client: Any, captured: ListSink, provider: Provider) -> None:
    client("flaky", max_retries=3).chat.completions.create(**CHAT)
    assert provider.requests["flaky"] == 3
    assert only(captured) == success(**USAGE, tool_calls=1, retries=2)


def test_retries_that_do_not_help(client: Any, captured: ListSink) -> None:
    with pytest.raises(openai.RateLimitError):
        client("429", max_retries=1).chat.completions.create(**CHAT)
    assert only(captured) == error("RateLimitError", http_status=429, retries=1, duration_ms=0.0)


def test_an_answer_that_is_no_json(client: Any, captured: ListSink) -> None:
    with pytest.raises(json.JSONDecodeError):
        client("not-json").chat.completions.create(**CHAT)
    assert only(captured) == error("JSONDecodeError", duration_ms=0.0)


def test_an_error_under_http_200(client: Any, captured: ListSink) -> None:
    client("error-in-200").chat.completions.create(**CHAT)
    assert only(captured) == error("server_error", duration_ms=0.0)


def test_arguments_that_cannot_be_sent(client: Any, captured: ListSink) -> None:
    with pytest.raises(TypeError):
        client().chat.completions.create(model="gpt-test", messages=[{"role": "user", "content": object()}])
    assert only(captured) == error("TypeError", "caller", duration_ms=0.0)


@pytest.mark.parametrize(
    ("behaviour", "raises", "name"),
    [
        ("cut", openai.APIConnectionError, "APIConnectionError"),
        ("error-frame", openai.APIError, "APIError"),
        ("garbage", json.JSONDecodeError, "JSONDecodeError"),
    ],
)
def test_a_stream_that_breaks(
    client: Any, captured: ListSink, behaviour: str, raises: Any, name: str
) -> None:
    stream = client(behaviour).chat.completions.create(**CHAT, stream=True)
    with pytest.raises(raises):
        list(stream)
    assert only(captured) == error(name, ttft_ms=250.0, duration_ms=350.0, tool_calls=1)


def test_a_stream_that_stops_in_the_middle(client: Any, captured: ListSink) -> None:
    assert len(list(client("stops").chat.completions.create(**CHAT, stream=True))) == 4
    assert only(captured) == error("IncompleteRead", ttft_ms=250.0, duration_ms=350.0, tool_calls=1)


def test_an_error_event_of_a_response(client: Any, captured: ListSink) -> None:
    list(client("error-frame").responses.create(model="gpt-test", input=PROMPT, stream=True))
    event = only(captured)
    assert (event["status"], event["error"], event["error_source"]) == ("error", "server_error", "provider")


@pytest.mark.parametrize("how", ["close", "with", "helper", "drop"])
def test_a_reader_that_goes_away(client: Any, captured: ListSink, how: str) -> None:
    completions = client().chat.completions
    if how == "helper":
        with completions.stream(**CHAT) as helper:
            next(helper)
    else:
        stream = completions.create(**CHAT, stream=True)
        next(stream)
        if how == "close":
            stream.close()
        elif how == "with":
            with stream:
                pass
        else:
            del stream
            gc.collect()
    event = only(captured)
    assert (event["status"], event["error"], event["error_source"]) == ("error", "CancelledError", "caller")


def test_a_reader_that_stops_at_the_finish_reason_has_read_all(client: Any, captured: ListSink) -> None:
    with client().chat.completions.create(**CHAT, stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].finish_reason:
                break
    assert only(captured)["status"] == "success"


def test_a_cancelled_task(provider: Provider, captured: ListSink) -> None:
    async def main() -> None:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=provider.url("ok")) as client:
            stream = await client.chat.completions.create(**CHAT, stream=True)
            await anext(stream)
            task = asyncio.ensure_future(anext(stream))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await stream.close()

    asyncio.run(main())
    event = only(captured)
    assert (event["error"], event["error_source"]) == ("CancelledError", "caller")


def test_S10_a_stream_keeps_the_request_that_began_it(client: Any, captured: ListSink) -> None:
    with tocsin.bind(request_id="r-1"):
        stream = client().chat.completions.create(**CHAT, stream=True)
    with tocsin.bind(request_id="r-2", user_id=812):
        list(stream)
    event = only(captured)
    assert event["request_id"] == "r-1"
    assert "user_id" not in event


def test_nothing_inside_a_gateway_request(client: Any, captured: ListSink) -> None:
    with ai.request(provider="openai", model="by hand"):
        client().chat.completions.create(**CHAT)
    assert only(captured)["model"] == "by hand"
    client().chat.completions.create(**CHAT)
    assert len(captured.events) == 2


def test_other_requests_are_none_of_it(client: Any, captured: ListSink) -> None:
    with pytest.raises(openai.APIStatusError):
        client("500").models.list()
    assert captured.events == []


def test_azure(provider: Provider, captured: ListSink) -> None:
    url = provider.url("ok", "")
    with openai.AzureOpenAI(azure_endpoint=url, api_key=KEY, api_version="2026-01-01") as client:
        client.chat.completions.create(**CHAT)
    assert only(captured)["provider"] == "azure.ai.openai"


def test_a_failure_of_ours_is_nothing_to_the_application(
    client: Any, captured: ListSink, internal_failures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("tocsin.instrumentation._ai_client.SdkCall._read", broken)
    assert client().chat.completions.create(**CHAT).usage.total_tokens == 812
    assert only(captured)["status"] == "success"
