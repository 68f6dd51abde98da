"""Temporary errors of a host: the caller is told, and later requests are sent as before."""

import asyncio
from dataclasses import replace

import pytest

from daca_shared.domain import DomainError, LimitReached, Unavailable
from examples.handoff import extend
from tests.hosts.conftest import Talking
from tests.odd_host import Reply, calling, either, error, events

RATE_LIMITS = [
    # Of Anthropic through LiteLLM, Bedrock, Cerebras and OpenAI, as texts and in a stream.
    *(
        error({"error": {"message": words}}, 429)
        for words in (
            "This request would exceed your organization's rate limit of 30,000 input tokens per "
            "minute",
            "Too many tokens, please wait before trying again.",
            "Tokens per minute limit exceeded - too many tokens processed.",
        )
    ),
    error({"error": {"type": "tokens", "param": None, "code": "rate_limit_exceeded"}}, 429),
    events({"error": {"message": "Too many tokens", "code": "429"}}),
    events({"error": {"message": "Would exceed your input tokens", "type": "rate_limit_error"}}),
]


@pytest.mark.parametrize("refusal", RATE_LIMITS, ids=range(len(RATE_LIMITS)))
async def test_a_rate_limit_in_tokens_is_a_rate_limit(talking: Talking, refusal: Reply) -> None:
    async with talking(either(content="x" * 900)) as talk:
        for n in range(10):
            await talk.say(f"message {n}")
        talk.host.answers = [refusal]
        with pytest.raises(LimitReached):
            await talk.say("and now?")
        assert len(talk.host.requests) == 12  # one of them a retry
        talk.host.answers = [either(content="fine")]
        assert await talk.say("and then?") == "fine"
        users = [m for m in talk.host.requests[-1]["messages"] if m["role"] == "user"]
        assert len(users) == 11


@pytest.mark.parametrize(
    ("wait", "told_s"),
    [
        ("120", 120),
        ("3", 3),
        ("30.5", 30.5),
        ("Fri, 31 Dec 2099 23:59:59 GMT", None),
        ("9" * 20, None),
    ],
)
@pytest.mark.parametrize(("status", "kind"), [(429, LimitReached), (503, Unavailable)])
async def test_a_retry_after_of_seconds_is_reported_at_once(
    talking: Talking, wait: str, told_s: float | None, status: int, kind: type[DomainError]
) -> None:
    refusal = replace(error("Slow down", status), retry=f"retry-after: {wait}")
    async with talking(refusal) as talk, asyncio.timeout(10):
        with pytest.raises(kind) as told:
            await talk.say()
        assert len(talk.host.requests) == 1
    assert told.value.retry_after_s == told_s


NOT_ALL_TOOLS = [
    error({"error": {"message": "function calling is temporarily not available"}}, 503),
    error({"error": {"message": "Tools are not available at the moment"}}, 429),
    error({"error": {"message": "tool use is temporarily not available"}}, 500),
    # How OpenAI, Gemini, Anthropic and vLLM reject the schema of one tool.
    error({"error": {"message": "Invalid schema for function 'mcp_x__y': In context=('properties', "
           "'z'), 'default' is not permitted."}}),
    error([{"error": {"message": "Invalid JSON payload received. Unknown name \"const\" at "
           "'tools[0].function_declarations[1].parameters': Cannot find field."}}]),
    error({"error": {"message": "tools.0.custom.strict: Extra inputs are not permitted"}}),
    error({"detail": [{"loc": ["body", "tools", 0, "function", "strict"],
           "msg": "Extra inputs are not permitted"}]}, 422),
    # How Bedrock and Anthropic, through LiteLLM, refuse an agent without tools that takes over.
    error({"error": {"message": "litellm.UnsupportedParamsError: Bedrock doesn't support tool "
           "calling without `tools=` param specified."}}),
    error({"error": {"message": "litellm.UnsupportedParamsError: Anthropic expects the `tools=` "
           "param to be passed in."}}),
    # What a model or a user has said is not the host's word. Ollama and llama.cpp quote what they
    # can't parse.
    error({"error": {"message": "error parsing tool call: raw='{\"q\":\"is this function not "
           "supported?', err=unexpected end of JSON input", "type": "api_error"}}, 500),
    error({"error": {"message": "Failed to parse input at pos 0: <tool_call>I said that the "
           "function is unsupported", "code": 500, "type": "server_error"}}, 500),
    error({"error": {"message": "Failed to parse tool call arguments as JSON: parse error at line "
           "1, column 5; last read: '{\"the tool is unsupported'", "code": 500}}, 500),
    error({"error": {"code": "tool_use_failed", "failed_generation": "I know no such function: it "
           "is not supported"}}),
    error({"detail": [{"loc": ["body", "messages"], "input": "Is my tool unsupported?"}]}, 422),
]  # fmt: skip


@pytest.mark.parametrize("refusal", NOT_ALL_TOOLS, ids=range(len(NOT_ALL_TOOLS)))
async def test_temporary_or_single_tool_failures_do_not_disable_all_tools(
    talking: Talking, refusal: Reply
) -> None:
    async with talking(refusal) as talk:
        with pytest.raises(DomainError):
            await talk.say()
        talk.host.answers = [either(content="fine")]
        await talk.say()
        assert all("tools" in request for request in talk.host.requests)


async def test_an_agent_that_is_handed_a_chat_is_asked_as_the_first_is(talking: Talking) -> None:
    answers = calling("transfer_to_poet"), error("oops", 500), either(content="roses")
    async with talking(*answers, extend=extend) as talk:
        assert await talk.say() == "roses"
        first, *seconds = [{*request} - {"tools"} for request in talk.host.requests]
        assert seconds == [first, first]


async def test_a_host_without_tools_is_offered_no_handoffs_either(talking: Talking) -> None:
    refusal = error({"error": {"message": "this model does not support tools"}})
    async with talking(refusal, either(content="fine"), extend=extend) as talk:
        assert await talk.say() == "fine"
        assert ["tools" in request for request in talk.host.requests] == [True, False]
