"""``ai.request`` of the official OpenAI SDK: ``tocsin.instrument("openai")``.

Chat completions, responses, embeddings and legacy completions; sync, async, streamed, raw; also Azure.
"""

from __future__ import annotations

from typing import Any

import openai

from tocsin.instrumentation._ai_client import Sdk, SdkCall, count, get, patch


def instrument() -> None:
    """Every call of every client prints one ``ai.request``. Doing it again does nothing more."""
    patch(_SDK, openai.OpenAI, openai.AsyncOpenAI)


def _read_answer(call: SdkCall, answer: Any) -> None:
    _read_usage(call, answer)
    if error := get(answer, "error"):  # a failed response, or a proxy's error, under HTTP 200
        call.failed_with(error)
    for choice in get(answer, "choices") or ():
        tools = get(get(choice, "message"), "tool_calls") or ()
        call.tools.update((get(choice, "index"), position) for position, _ in enumerate(tools))
    for position, item in enumerate(get(answer, "output") or ()):
        if str(get(item, "type")).endswith("_call"):
            call.tools.add(position)


def _read_item(call: SdkCall, item: Any) -> None:
    kind = get(item, "type")
    if isinstance(kind, str):
        _read_event(call, kind, item)
    else:
        _read_chunk(call, item)


def _read_chunk(call: SdkCall, chunk: Any) -> None:
    """An item of a streamed (chat) completion."""
    _read_usage(call, chunk)
    for choice in get(chunk, "choices") or ():
        delta = get(choice, "delta")
        tools = get(delta, "tool_calls") or ()
        if tools or get(delta, "content") or get(delta, "refusal") or get(choice, "text"):
            call.first_token()
        call.tools.update((get(choice, "index"), get(tool, "index")) for tool in tools)
        call.complete = call.complete or get(choice, "finish_reason") is not None


def _read_event(call: SdkCall, kind: str, event: Any) -> None:
    """An item of a streamed response."""
    if kind.endswith(".delta"):
        call.first_token()
    elif kind in ("response.completed", "response.incomplete", "response.failed"):
        call.complete = True
        _read_answer(call, get(event, "response"))
    elif kind == "error":
        call.complete = True
        call.failed_with(event)


def _read_usage(call: SdkCall, answer: Any) -> None:
    usage = get(answer, "usage")
    prompt, completion = get(usage, "prompt_tokens"), get(usage, "completion_tokens")
    call.usage(
        prompt_tokens=count(get(usage, "input_tokens") if prompt is None else prompt),
        completion_tokens=count(get(usage, "output_tokens") if completion is None else completion),
        total_tokens=count(get(usage, "total_tokens")),
    )


_SDK = Sdk(
    name="openai",
    operations=frozenset({"/chat/completions", "/responses", "/embeddings", "/completions"}),
    read_answer=_read_answer,
    read_item=_read_item,
    streams=(openai.Stream, openai.AsyncStream),
    api_errors=openai.APIError,
    safety_errors=(openai.ContentFilterFinishReasonError,),
)
