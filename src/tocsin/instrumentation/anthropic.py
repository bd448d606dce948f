"""``ai.request`` of the official Anthropic SDK: ``tocsin.instrument("anthropic")``.

Messages, also beta; sync, async, streamed, raw; also on Bedrock and Vertex.
"""

from __future__ import annotations

from typing import Any

import anthropic

from tocsin.instrumentation._ai_client import Sdk, SdkCall, count, get, patch


def instrument() -> None:
    """Every call of every client prints one ``ai.request``. Doing it again does nothing more."""
    patch(_SDK, anthropic.Anthropic, anthropic.AsyncAnthropic)


def _read_answer(call: SdkCall, answer: Any) -> None:
    usage = get(answer, "usage")
    call.usage(prompt_tokens=_prompt_tokens(usage), completion_tokens=count(get(usage, "output_tokens")))
    for position, block in enumerate(get(answer, "content") or ()):
        if _is_tool_call(block):
            call.tools.add(position)


def _read_item(call: SdkCall, item: Any) -> None:
    kind = get(item, "type")
    if kind == "message_start":
        # Its output tokens are only those of the beginning.
        call.usage(prompt_tokens=_prompt_tokens(get(get(item, "message"), "usage")))
    elif kind == "content_block_start" and _is_tool_call(get(item, "content_block")):
        call.tools.add(get(item, "index"))
    elif kind == "content_block_delta":
        call.first_token()
    elif kind == "message_delta":
        usage = get(item, "usage")
        call.usage(prompt_tokens=_prompt_tokens(usage), completion_tokens=count(get(usage, "output_tokens")))
    elif kind == "message_stop":
        call.complete = True


def _prompt_tokens(usage: Any) -> int | None:
    """All tokens of the prompt: ``input_tokens`` leaves out those that went into or came from a cache."""
    fresh = count(get(usage, "input_tokens"))
    if fresh is None:
        return None
    cached = ("cache_creation_input_tokens", "cache_read_input_tokens")
    return fresh + sum(count(get(usage, name)) or 0 for name in cached)


def _is_tool_call(block: Any) -> bool:
    return str(get(block, "type")).endswith("tool_use")


_SDK = Sdk(
    name="anthropic",
    operations=frozenset({"/v1/messages"}),
    read_answer=_read_answer,
    read_item=_read_item,
    streams=(anthropic.Stream, anthropic.AsyncStream),
    api_errors=anthropic.APIError,
)
