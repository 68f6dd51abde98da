"""A host's refusals: its text is logged, users get ours, and tools or old turns are left out."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chat_service.chat.messages import ChatMessage
from chat_service.hosts.refusals import status_error
from daca_shared.domain import (
    DomainError,
    Failed,
    InvalidInput,
    LimitReached,
    Misconfigured,
    TimedOut,
    Unavailable,
)
from lab.postgres import Place
from tests.hosts.conftest import KEY, WAYS, Talking
from tests.odd_host import (
    Answer,
    Reply,
    calling,
    delta,
    either,
    error,
    events,
    message,
    name_of,
    roles,
)

TOO_LONG: list[Reply] = [
    error({"error": {"message": "too long", "code": "context_length_exceeded"}}),
    error({"object": "error", "message": "This model's maximum context length is 2048 tokens. "
           "However, you requested 2359 tokens", "code": 400}),
    error({"error": {"code": 500, "message": "the request exceeds the available context size",
           "type": "exceed_context_size_error"}}, 500),
    error({"error": "Trying to keep the first 15857 tokens when context the overflows."}),
    error([{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "The input token count "
           "(337807) exceeds the maximum number of tokens allowed (65536)."}}]),
    error({"error": {"message": "litellm.BadRequestError: prompt is too long: 9 tokens"}}),
    error({"error": {"message": "Request too large for model `m` on tokens per minute"}}, 413),
    error({"error": {"message": "Request too large for m on tokens per min (TPM): Limit 8, "
           "Requested 9. The input or output tokens must be reduced"}}, 429),
    error("", 413),
    error({"message": "Prompt contains 9 tokens, too large for model with 8"}),
    error({"error": {"message": "Please reduce the length of the messages or completion."}}, 422),
    error({"error": {"message": "maximum context length is 9", "code": 400}}, 200),
    events({"error": {"message": "Context size has been exceeded.", "code": 400}}),
    error({"error": "This model's maximum prompt length is 131072 but the request contains 136973 "
           "tokens."}),
    error({"error": {"message": "Range of input length should be [1, 30720]"}}),
    error({"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. "
           "Given: 4090 `inputs` tokens and 20 `max_new_tokens`"}, 422),
    error({"error": {"message": "prompt is too long", "type": "invalid_request_error"}}, 200),
    error({"message": "length of prompt_tokens (9) must be less than max_seq_len (8)."}),
    error({"message": "max_tokens must be at least 1, got -7584"}),
    error({"error": {"code": "1261", "message": "Prompt 超长"}}),
    error({"error": {"message": "litellm.ContextWindowExceededError: it has 9 tokens, not 8"}}),
    error({"error": "`inputs` must have less than 1024 tokens. Given: 2000"}, 422),
]  # fmt: skip
LACKS_TOOLS: list[Reply] = [
    error({"error": {"message": "registry.ollama.ai/library/gemma:2b does not support tools"}}),
    error({"object": "error", "message": '"auto" tool choice requires --enable-auto-tool-choice '
           "and --tool-call-parser to be set", "code": 400}),
    error({"error": {"code": 500, "message": "tools param requires --jinja flag"}}, 500),
    error({"error": {"message": "No endpoints found that support tool use.", "code": 404}}, 404),
    error({"error": {"message": "Function calling is not enabled for models/gemma-3"}}),
    error({"error": {"message": "deepseek-reasoner does not support Function Calling"}}),
    error({"error": {"message": "`tool calling` is not supported with this model"}}),
    error({"error": "litellm.UnsupportedParamsError: m does not support parameters: ['tools']"}),
    error({"error": {"message": "Unrecognized request arguments supplied: tools"}}),
    error({"detail": [{"type": "extra_forbidden", "loc": ["body", "tools"],
           "msg": "Extra inputs are not permitted"}]}, 422),
    error({"error": {"message": "litellm.BadRequestError: BedrockException - This model doesn't "
           "support tool use in streaming mode."}}),
    error({"error": {"message": "Tools aren't supported"}}),
]  # fmt: skip


def unless(refused: Callable[[dict[str, Any]], Any], refusal: Reply) -> Answer:
    def answer(request: dict[str, Any]) -> Reply:
        said = either(content="fine")
        assert not isinstance(said, Reply)
        return refusal if refused(request) else said(request)

    return answer


def longer_than(length: int) -> Callable[[dict[str, Any]], bool]:
    return lambda request: len(json.dumps(request["messages"][1:])) > length


@pytest.mark.parametrize("refusal", LACKS_TOOLS, ids=range(len(LACKS_TOOLS)))
async def test_a_model_without_tools_is_asked_without_tools(
    talking: Talking, caplog: pytest.LogCaptureFixture, refusal: Reply
) -> None:
    async with talking(calling(), either(content="It is noon")) as talk:
        await talk.say("the time?")
        talk.host.answers = [unless(lambda request: "tools" in request, refusal)]
        caplog.clear()
        assert [await talk.say(), await talk.say()] == ["fine", "fine"]
        assert caplog.text.count("tools: False") == 1
        *_, first, second, third = talk.host.requests
        assert ["tools" in request for request in (first, second, third)] == [True, False, False]
        # It doesn't see earlier tool calls either, or instructions to make any.
        assert "tool" not in json.dumps(second["messages"]).replace("tools", "")
        assert "get_current_time" not in json.dumps(third)


@pytest.mark.parametrize("refusal", TOO_LONG, ids=range(len(TOO_LONG)))
async def test_only_the_newer_half_of_a_conversation_that_is_too_long_is_sent(
    talking: Talking, refusal: Reply
) -> None:
    async with talking(either(content="x" * 900)) as talk:
        for n in range(10):
            await talk.say(f"message {n}")
        talk.host.answers = [unless(longer_than(6000), refusal)]
        before = len(talk.host.requests)
        assert await talk.say("and now?") == "fine"
        first, *_, second = talk.host.requests[before:]  # an error 500 is retried once
        shown = [m["content"] for m in second["messages"] if m["role"] == "user"]
        # The latest turns, as a whole.
        assert shown == [*(f"message {n}" for n in range(5, 10)), "and now?"]
        assert len(first["messages"]) == 22
        # Other users' histories stay as long as they were.
        talk.host.answers = [either(content="fine")]
        await talk.say("and then?")
        assert len(talk.host.requests[-1]["messages"]) == 24


async def test_a_message_that_is_too_long_by_itself_is_reported_to_the_user(
    talking: Talking, place: Place
) -> None:
    async with talking(either(content="hi"), place=place) as talk:
        await talk.say()
        talk.host.answers = [TOO_LONG[0]]
        with pytest.raises(InvalidInput, match="too long for the model"):
            await talk.say()
        assert len(talk.host.requests) == 3
        assert len(await talk.turns()) == 1


async def test_a_conversation_of_any_length_goes_on_with_a_model_of_a_small_context(
    talking: Talking,
) -> None:
    async with talking(either(content="x" * 900)) as talk:
        for n in range(20):
            await talk.say(f"message {n}")
        talk.host.answers = [unless(longer_than(4500), TOO_LONG[0])]
        assert await talk.say("and now?") == "fine"
        shown = [m["content"] for m in talk.host.requests[-1]["messages"] if m["role"] == "user"]
        assert shown == ["message 18", "message 19", "and now?"]


async def test_a_model_of_a_tiny_context_is_asked_without_history_in_the_end(
    talking: Talking,
) -> None:
    async with talking(either(content="x" * 900)) as talk:
        for n in range(20):
            await talk.say(f"message {n}")
        before = len(talk.host.requests)
        talk.host.answers = [unless(longer_than(1500), TOO_LONG[0])]
        assert await talk.say("and now?") == "fine"
        assert roles(talk.host.requests[-1]) == ["system", "user"]
        talk.host.answers = [TOO_LONG[0]]
        with pytest.raises(InvalidInput, match="too long for the model"):
            await talk.say("nor now?")
        # Each attempt may run tools again, and counts in the host's rate limit.
        assert len(talk.host.requests) - before == 2 * 4


async def test_a_clients_own_history_is_bounded_and_halved_too(talking: Talking) -> None:
    said = [("system", "Be brief."), *[("user", "x" * 900), ("assistant", "x" * 100)] * 10]
    sent = {"user_id": "alice", "text": "and now?", "history": said}
    async with talking(either(content="fine"), max_history_length=7900) as talk:
        await talk.chat.conversation.reply(ChatMessage.model_validate(sent))
        talk.host.answers = [unless(longer_than(6000), TOO_LONG[0])]
        await talk.chat.conversation.reply(ChatMessage.model_validate(sent))
        shown = [roles(request) for request in talk.host.requests]
        # Some models take only one message from the system, and only as the first.
        (system, *_) = talk.host.requests[-1]["messages"]
    pairs = ["user", "assistant"]
    assert shown == [["system", *pairs * n, "user"] for n in (7, 7, 3)]
    assert re.fullmatch("You are .*\n\nBe brief[.]", system["content"], re.DOTALL)


async def test_a_clients_own_history_and_a_stored_one_are_shortened_together(
    talking: Talking,
) -> None:
    said = [("user", "x" * 500), ("assistant", "x" * 500)] * 10
    async with talking(either(content="x" * 990), max_history_length=5000) as talk:
        for n in range(10):
            await talk.say(f"message {n}")
        before = len(talk.host.requests)
        talk.host.answers = [unless(longer_than(4000), TOO_LONG[0])]
        sent = ChatMessage.model_validate(
            {"user_id": "alice", "text": "hi", "history": said, "session_id": talk.session_id}
        )
        async with asyncio.timeout(5):
            await talk.chat.conversation.reply(sent)
        assert len(talk.host.requests) - before <= 4


async def test_history_is_bounded_by_size(talking: Talking, place: Place) -> None:
    async with talking(either(content="x" * 90), place=place, max_history_length=250) as talk:
        for n in range(5):
            await talk.say(f"message {n}!")
        shown = [m["content"] for m in talk.host.requests[-1]["messages"] if m["role"] == "user"]
        assert shown == ["message 2!", "message 3!", "message 4!"]


NO_MODEL = Misconfigured, "does not have this service's model"
NO_PLACE = Misconfigured, "doesn't know this address .OPENAI_BASE_URL. or model"
NO_KEY = Misconfigured, "refuses this service's API key"
NO_CREDIT = Misconfigured, "no credit left"
REFUSED = Failed, "refused the request"
AWAY = Unavailable, "can't be reached"
LATE = TimedOut, "took too long"
FILTERED = InvalidInput, "text: was refused by a filter"
NONSENSE = Unavailable, "makes no sense"


REFUSALS: list[tuple[int, Any, tuple[type[DomainError], str]]] = [
    (400, "model `m` not found, try pulling it first", NO_MODEL),
    (400, {"error": {"message": "Invalid model name passed in model=m"}}, NO_MODEL),
    (400, {"error": {"message": "Model Not Exist"}}, NO_MODEL),
    (400, {"error": {"message": "m is not a valid model ID"}}, NO_MODEL),
    (404, "404 page not found", NO_PLACE),
    (404, {"detail": "Not Found"}, NO_PLACE),
    (404, {"error": {"message": "The model `m` does not exist"}}, NO_MODEL),
    (400, {"error": {"message": "model \"llama3.2\" not found, try to pull it"}}, NO_MODEL),
    (404, {"error": {"message": "model \"llama3.2\" not found, try to pull it"}}, NO_MODEL),
    (404, {"object": "error", "message": "The model `Q/Qwen2.5` does not exist."}, NO_MODEL),
    (404, [{"error": {"message": "models/gemini-1.5 is not found for API v1"}}], NO_MODEL),
    (404, [{"error": {"message": "models/gemini-1.5 is no longer available."}}], NO_MODEL),
    (404, {"error": {"type": "not_found_error", "message": "model: claude-3.5"}}, NO_MODEL),
    (404, {"message": "The provided model identifier is invalid."}, NO_MODEL),
    (404, {"error": {"message": "Publisher Model `m/gemini-1.5` was not found"}}, NO_MODEL),
    (404, {"error": {"message": "Not found the model kimi-k2.5"}}, NO_MODEL),
    (404, {"error": {"message": "No endpoints found for meta/llama-3.1"}}, NO_MODEL),
    (404, "The model `m-4` has been deprecated, learn more here: https://p", NO_MODEL),
    (400, "The model `m-3.1-70b` has been decommissioned and is not supported", NO_MODEL),
    (400, {"error": {"message": "m is gone", "code": "model_decommissioned"}}, NO_MODEL),
    (400, {"code": "400", "message": "Model meta.llama-3.1-70b 1.0.0 is retired"}, NO_MODEL),
    (400, {"error": {"message": "The requested model 'q/m-2.5' is not supported by any "
                     "provider you have enabled."}}, NO_MODEL),
    (400, {"error": {"message": "Not supported.", "code": "model_not_supported"}}, NO_MODEL),
    (400, {"error": {"message": "Unknown model: m", "code": "unknown_model"}}, NO_MODEL),
    (400, {"error": {"code": "1211", "message": "模型不存在"}}, NO_MODEL),
    (410, {"title": "Gone", "status": 410, "detail": "The model 'z/glm4.7' has reached its end "
           "of life on 2026-06-11T00:00:00Z and is no longer available."}, NO_MODEL),
    (410, "The model associated with the deployment is deprecated and no longer available for "
     "use.", NO_MODEL),
    (400, "This model version has reached the end of its life.", NO_MODEL),
    (400, {"error": {"message": "There are no healthy deployments for this model"}}, NO_MODEL),
    (410, {"detail": "Gone"}, NO_PLACE),
    (405, {"detail": "Method Not Allowed"}, NO_PLACE),
    (451, {"error": {"message": "Not here"}}, REFUSED),
    (400, {"error": {"message": "For model m-3.1: functions is deprecated"}}, REFUSED),
    (400, {"error": {"message": "The model m-1 requires x; n is deprecated"}}, REFUSED),
    (400, {"error": {"message": "Streaming for model `m-1` is not supported"}}, REFUSED),
    (400, {"error": {"message": "effort with the model m-1 is no longer supported"}}, REFUSED),
    (400, "For this model, `functions` has been retired; use tools", REFUSED),
    (400, "The model made nonsense. The user, a retired teacher, asked", REFUSED),
    (404, {"error": {"message": "No endpoints found matching your data policy"}}, NO_PLACE),
    (404, {"error": {"message": "Invalid URL (POST /v1/models/chat/completions)"}}, NO_PLACE),
    (404, {"error": {"message": "This model is only supported in v1/responses"}}, NO_PLACE),
    (400, {"error": {"message": "For model m-5.1 reasoning.x is not available"}}, REFUSED),
    (200, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}, NO_PLACE),
    (400, [{"error": {"message": "API key not valid. Pass a valid one"}}], NO_KEY),
    (400, {"code": "Invalid argument", "error": "Incorrect API key provided: xa"}, NO_KEY),
    (200, {"error": {"type": "authentication_error", "message": "No"}}, NO_KEY),
    (402, {"error": {"message": "Insufficient Balance"}}, NO_CREDIT),
    (200, {"choices": None, "base_resp": {"status_msg": "insufficient balance"}}, NO_CREDIT),
    (403, {"errors": [{"code": "token_quota_reached", "message": "m"}]}, NO_CREDIT),
    (402, "More credits, or fewer max_tokens: up to 9 were requested", NO_CREDIT),
    (402, {"error": {"message": "Prompt tokens limit exceeded: 9 > 8"}}, NO_CREDIT),
    (400, {"error": {"message": "Your credit balance is too low to go on"}}, NO_CREDIT),
    (403, "Your team has used all available credits", NO_CREDIT),
    (400, {"error": {"code": "billing_hard_limit_reached"}}, NO_CREDIT),
    (400, {"error": {"code": "Arrearage"}}, NO_CREDIT),
    (429, {"error": {"code": "1113", "message": "您的账户已欠费"}}, NO_CREDIT),
    (429, {"error": {"code": "insufficient_quota"}}, NO_CREDIT),
    (403, {"error": {"message": "Key limit exceeded (total limit)", "code": 403}}, NO_CREDIT),
    (400, {"error": {"message": "Budget has been exceeded! Max budget: 0.3"}}, NO_CREDIT),
    (400, {"error": {"message": "ExceededBudget: a has exceeded their budget"}}, NO_CREDIT),
    (500, {"error": {"message": "Max retries exceeded with url: /v1"}}, AWAY),
    (498, {"error": {"message": "Flex tier capacity exceeded"}}, AWAY),
    (500, r'{"error": "{\\\"message\\\": \\\"Max retries exceeded"}', AWAY),
    (500, {"error": {"message": "Request failed: exceeded max retries"}}, AWAY),
    (502, {"error": {"message": "The tokens per minute were exceeded"}}, AWAY),
    (503, {"error": {"message": "The content filter is down"}}, AWAY),
    (504, {"error": {"message": "The request exceeded its maximum execution time"}}, LATE),
    (503, "The model is temporarily not available, please retry", AWAY),
    (500, {"error": {"message": "The model `m` is overloaded and not available"}}, AWAY),
    (503, "Model m is not available", AWAY),
    (429, {"error": {"message": "Slow down"}}, (LimitReached, "rate limit")),
    (200, {"error": {"type": "invalid_request_error", "code": "rate_limited"}},
     (LimitReached, "rate limit")),
    (400, {"error": {"message": "temperature must be 1"}}, REFUSED),
    (400, {"error": {"message": "Invalid 'tools': array too long. It has 130"}}, REFUSED),
    (400, {"error": {"message": "max_tokens is too large: 200000"}}, REFUSED),
    (400, {"error": {"message": "Your request exceeded the maximum concurrency"}}, REFUSED),
    (422, {"detail": [{"loc": ["body", "x"], "msg": "missing"}]}, REFUSED),
    (400, {"error": {"code": "content_filter", "innererror": {}}}, FILTERED),
    (400, {"error": {"type": "content_filter", "message": "high risk"}}, FILTERED),
    (400, {"error": {"code": "data_inspection_failed"}}, FILTERED),
    (400, {"error": {"code": "invalid_prompt", "message": "flagged"}}, FILTERED),
    (400, {"error": {"message": "Content Exists Risk"}}, FILTERED),
    (403, {"error": {"message": "m requires moderation on P. Your input was flagged for \"x\". "
                     "No credits were charged.", "code": 403}}, FILTERED),
    (403, "Content violates usage guidelines", FILTERED),
    (400, {"contentFilter": [{"level": 1}], "error": {"code": "1301"}}, FILTERED),
    (400, {"error": {"code": "1301", "message": "\u5b89\u5168"}}, FILTERED),
    (400, {"error": {"message": "Output blocked by content filtering policy"}}, FILTERED),
    (400, {"error": {"message": "litellm.ContentPolicyViolationError: It was filtered due to "
                     "Azure OpenAI's content management policy."}}, FILTERED),
    (400, {"error": {"message": "Your prompt was flagged as potentially violating"}}, FILTERED),
    (400, {"error": {"message": "{'error': 'Violated guardrail policy'}"}}, FILTERED),
    (403, "Content violates safety guidelines", FILTERED),
    (403, {"error": {"message": "requires moderation", "code": 403, "metadata": {
        "flagged_input": "bad: prompt is too long"}}}, FILTERED),
    (400, {"error": {"code": "tool_use_failed", "failed_generation": "no"}}, NONSENSE),
    (500, {"error": {"message": "error parsing tool call: raw='prompt is too long'"}}, NONSENSE),
    (500, {"error": {"message": "Failed to parse input at pos 9: no credit"}}, NONSENSE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("way", "status", "words", "expected"),
    [
        (way, *one)
        for n, one in enumerate(REFUSALS)
        # In turns, if both ways are refused before an answer begins.
        for way in (WAYS if one[0] == 200 else [WAYS[n % 2]])
    ],
    ids=name_of,
)
async def test_the_user_gets_a_safe_error_and_the_log_the_details(
    talking: Talking,
    caplog: pytest.LogCaptureFixture,
    status: int,
    words: Any,
    expected: tuple[type[DomainError], str],
) -> None:
    kind, text = expected
    async with talking(error(words, status)) as talk:
        with pytest.raises(kind, match=text) as failure:
            await talk.say()
    said = words if isinstance(words, str) else json.dumps(words)
    # What quotes a user or a model is not logged.
    quotes = '"(?:failed_generation|flagged_input)": |(?<=parsing tool call:)|(?<=at pos 9:)'
    told, *quoted = re.split(quotes, said)
    assert told in caplog.text
    assert not any(quote in caplog.text for quote in quoted)
    assert said not in str(failure.value)


async def test_a_key_in_a_hosts_message_and_what_follows_are_not_logged(
    talking: Talking, caplog: pytest.LogCaptureFixture
) -> None:
    words = f"Bad temperature, and your key is {KEY}. " + "x" * 580 + KEY + "y" * 10_000
    async with talking(error(words)) as talk:
        with pytest.raises(Failed):
            await talk.say()
    assert "Bad temperature, and your key is [redacted]" in caplog.text
    assert not re.search("sk-Very|yyyy", caplog.text)


async def test_what_a_host_quotes_of_the_request_is_not_in_the_log(
    talking: Talking, caplog: pytest.LogCaptureFixture
) -> None:
    quote = "1 validation error: content.str [input_value=['my PIN is 4711'], input_type=list]"
    async with talking(error({"object": "error", "message": quote})) as talk:
        with pytest.raises(Failed):
            await talk.say()
    assert "validation error" in caplog.text
    assert "4711" not in caplog.text


def test_only_the_beginning_of_a_long_error_is_read() -> None:
    """Each of its characters takes 2 µs of the event loop."""
    assert len(str(status_error(None, "model " * 500_000))) < 20_000


async def test_a_host_with_a_header_in_its_own_script_is_understood(talking: Talking) -> None:
    refused = replace(error({"error": {"message": "No"}}, 401), retry="x-region: Z\u00fcrich")
    async with talking(refused) as talk:
        with pytest.raises(Misconfigured, match="refuses this service's API key"):
            await talk.say()


NOT_FOUND = {"code": 500, "msg": "404 NOT_FOUND", "success": False}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Reply(json.dumps(NOT_FOUND).encode()), "404 NOT_FOUND"),
        (Reply(b"<html>\n<h1>Please sign in</h1></html>", "text/html"), "Please sign in"),
        (Reply(b'{"base_resp": {"status_msg": "node is down"'), "node is down"),
    ],
    ids=["object", "page", "half"],
)
async def test_what_a_host_says_with_status_200_is_logged(
    talking: Talking, caplog: pytest.LogCaptureFixture, answer: Reply, words: str
) -> None:
    async with talking(answer) as talk:
        with pytest.raises(Unavailable):
            await talk.say()
    assert words in caplog.text


async def test_a_reply_that_can_not_be_read_is_not_logged(
    talking: Talking, caplog: pytest.LogCaptureFixture
) -> None:
    half = json.dumps(message(content="the user's secret"))[:-9]
    for answer in (
        Reply(half.encode()),
        events(delta(content="the user's secret"), b"data: {\n\n"),
    ):
        async with talking(answer) as talk:
            with pytest.raises(Unavailable):
                await talk.say()
    assert "no reply" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("refusal", [TOO_LONG[1], LACKS_TOOLS[0]], ids=["history", "tools"])
async def test_a_refusal_may_come_in_pieces(talking: Talking, refusal: Reply) -> None:
    async with talking(either(content="x" * 900)) as talk:
        await talk.say()
        talk.host.answers = [replace(refusal, pieces=3), either(content="fine")]
        assert await talk.say() == "fine"


async def test_an_error_that_does_not_end_is_known_by_its_status(talking: Talking) -> None:
    refusal = replace(error("Slow down", 429), retry="retry-after: 7", hangs=True)
    async with talking(refusal) as talk, asyncio.timeout(10):
        with pytest.raises(LimitReached) as told:
            await talk.say()
    assert told.value.retry_after_s == 7


@pytest.mark.parametrize("finish", ["error", "timeout", "network_error"])
async def test_a_reply_that_ends_in_an_error_is_neither_logged_nor_taken_for_the_hosts_words(
    talking: Talking, caplog: pytest.LogCaptureFixture, finish: str
) -> None:
    async with talking(either(content="fine")) as talk:
        await talk.say()
        talk.host.answers = [either(finish, content="a secret of the context window of a model")]
        with pytest.raises(Unavailable):
            await talk.say()
    assert f"finish_reason {finish}" in caplog.text
    assert "secret" not in caplog.text


async def test_an_error_in_a_stream_is_logged(
    talking: Talking, caplog: pytest.LogCaptureFixture
) -> None:
    broken = events(delta(content="a"), {"error": {"message": "out of memory", "code": 500}})
    async with talking(broken) as talk:
        with pytest.raises(DomainError):
            await talk.say()
    assert "out of memory" in caplog.text
