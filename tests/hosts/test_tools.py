"""Tool calls, in all the forms in which hosts send them."""

import json
import re
from collections.abc import Sequence
from typing import Any

import agents
import pytest

from chat_service.agent.agent import OurAgent
from daca_shared.domain import Failed, Unavailable
from tests.hosts.conftest import Talking
from tests.odd_host import Answer, Reply, calling, delta, either, error, events, message, roles

DONE = b"data: [DONE]\n\n"
STOP = delta("stop")
CLOCK = {"name": "get_current_time", "arguments": "{}"}


def called(*calls: dict[str, Any]) -> dict[str, Any]:
    return delta(tool_calls=list(calls))


def part(index: Any = 0, call_id: Any = None, name: Any = None, text: str = "") -> dict[str, Any]:
    call = {"index": index, "id": call_id, "function": {"name": name, "arguments": text}}
    return {key: value for key, value in call.items() if value is not ...}


@pytest.mark.parametrize(
    "call",
    [
        calling(arguments={}),
        calling(arguments={"zone": "UTC"}),
        calling(arguments=None),
        calling(arguments=""),
        calling(arguments="not JSON"),
        calling(arguments="[1]"),
        calling(arguments='{"zone": NaN}'),
        calling(arguments='{"a":' * 100_000 + "}" * 100_000),
        either("stop", tool_calls=[{"id": "1", "function": {"name": "get_current_time"}}]),
        calling(id=""),
        calling(id=None),
        calling(id=7),
        calling(id=...),
        calling(index=...),
        calling(index=None),
        calling(type=...),
        calling(type=None),
        either("stop", tool_calls=[{"id": "1", "function": CLOCK}]),
        either("stop", content="", function_call=CLOCK),
        either("stop", tool_calls=[{"id": "1", **CLOCK}]),
        events(called({"index": 0, "id": "1", "function": CLOCK}), DONE),
        Reply(json.dumps(message(None, tool_calls=[{"function": CLOCK}])).encode()),
    ],
    ids=range(22),
)
async def test_tool_calls_in_any_form_are_made(talking: Talking, call: Answer) -> None:
    async with talking(call, either(content="done")) as talk:
        assert await talk.say() == "done"
        ((turn,), shown) = await talk.turns(), talk.host.requests[-1]["messages"]
        (made,) = turn.answer.tool_calls
        assert re.match(r"\d{4}-", made.output)
        assert isinstance(json.loads(made.arguments, parse_constant=int), dict)
        # The host gets the call back in the standard form.
        assert roles(talk.host.requests[-1])[-2:] == ["assistant", "tool"]
        (asked,) = shown[-2]["tool_calls"]
        assert asked["id"] == shown[-1]["tool_call_id"] != ""
        assert asked["function"] == {"name": "get_current_time", "arguments": made.arguments}


EXTRA = {"google": {"thought_signature": "signed"}}


@pytest.mark.parametrize(
    "call",
    [
        calling(extra_content=EXTRA),
        events(called({"function": CLOCK}), called({"extra_content": EXTRA}), STOP, DONE),
    ],
    ids=["with the call", "in a piece of its own"],
)
async def test_geminis_signatures_are_sent_back_with_calls(talking: Talking, call: Answer) -> None:
    async with talking(call, either(content="done"), model="gemini") as talk:
        await talk.say()
        (sent_back,) = talk.host.requests[-1]["messages"][-2]["tool_calls"]
        assert sent_back["extra_content"] == EXTRA


TWO = part(1, "b", "two")


@pytest.mark.parametrize(
    "pieces",
    [
        [called(part(0, "a", "one", '{"a"'), part(1, "b", "two")), called(part(0, text=":1}"))],
        [called(part(0, "a", "one", '{"a":1}')), called(part(0, "b", "two", "{}"))],
        [called(part(0, "", "one", '{"a":1}')), called(part(0, "", "two", "{}"))],
        [called(part(..., ..., "one", '{"a":1}'), part(..., ..., "two"))],
        [
            called(part(0, "a", "one", '{"a"')),
            called(part(0, "a", "one", ":1}"), part(1, "b", "two")),
        ],
        [called(part(0, "a", "one", '{"a"')), called(part(0, "", "", ":1}"), part(1, "b", "two"))],
        [called(part(0, "same", "one", '{"a":1}'), part(1, "same", "two"))],
        [called(part(0, "a", "one", '{"a":1}'), TWO), called(part(0, "a", "one", '{"a":1}'), TWO)],
        [called(part(2, "a", "one", '{"a":1}')), called(part(5, "b", "two"))],
        [
            called(part(0, "a", "one", "{}")),
            called(part(text='{"a"')),
            called(part(text=":1}"), TWO),
        ],
        [called(part(0, "a", "one", '{"a"')), called(part(0, "b", "", ":1}")), called(TWO)],
        [
            called(part(0, "a", "one", '{"a"'), TWO),
            called(part(0, "c", None, ":1"), part(1, "d", None, "{")),
            called(part(0, "e", None, "}"), part(1, "f", None, "}")),
        ],
        [called(part(0, "same", "one", '{"a":1}')), called(part(1, "same", "two", "{}"))],
        [called(part(0, "a", "one"), part(0, text='{"a"')), called(part(0, text=":1}"), TWO)],
        [
            delta("stop", tool_calls=[part(0, "a", "one", '{"a":1}')]),
            delta("stop", tool_calls=[part(1, "b", "two", "{}")]),
        ],
        [
            delta("stop", tool_calls=[part(0, "a", "one", '{"a":1}')]),
            delta("stop", tool_calls=[part(0, "a", "one", '{"a":1}'), TWO]),
        ],
        [delta("stop", tool_calls=[part(0, "a", "one", '{"a":1}'), TWO]), called(part(1))],
        [called(part(0, "a", "", '{"a"')), called(part(0, "", "one", ":1}")), called(TWO)],
        [called(part(0, "a", "one", '{"a"')), called(part(3, "a", "", ":1}")), called(TWO)],
    ],
    ids=range(19),
)
async def test_two_calls_in_chunks_stay_separate(talking: Talking, pieces: list[Any]) -> None:
    async with talking(events(*pieces, STOP, DONE), either(content="done")) as talk:
        assert await talk.say() == "done"
        (turn,) = await talk.turns()
        made = [(call.tool, json.loads(call.arguments)) for call in turn.answer.tool_calls]
        assert made == [("one", {"a": 1}), ("two", {})]
        assert all(call.output for call in turn.answer.tool_calls)


HALF = {"index": 0, "id": "1", "function": {"name": "get_current_time", "arguments": '{"zone"'}}


@pytest.mark.parametrize(
    "answer",
    [
        *(either(finish, tool_calls=[HALF]) for finish in ("length", "content_filter")),
        *(calling(arguments=begun, finish="length") for begun in ("", "{}", None)),
        either("length", tool_calls=[{"function": CLOCK, "id": "2"}, HALF]),
        events(called(HALF), DONE),
        events(
            delta("tool_calls", tool_calls=[part(0, "0", "get_current_time", "{}")]),
            called(HALF | {"index": 1}),
            delta("length"),
            DONE,
        ),
        events(called(part(0, "1", "get_current_time")), DONE),
        Reply(json.dumps(message(None, tool_calls=[HALF])).encode()),
    ],
    ids=range(10),
)
async def test_a_call_that_is_cut_short_is_not_made(talking: Talking, answer: Answer) -> None:
    async with talking(answer) as talk:
        with pytest.raises(Unavailable, match="cut short"):
            await talk.say()
        assert all(roles(request)[-1] == "user" for request in talk.host.requests)


@pytest.mark.parametrize(
    ("ids", "text"),
    [("ab", '{"a":1}'), ("ab", ""), ((None, None), '{"a":1}'), (("a", None), '{"a":1}')],
)
async def test_calls_of_one_tool_stay_separate_though_a_host_numbers_all_of_them_0(
    talking: Talking, ids: Sequence[str | None], text: str
) -> None:
    pieces = (called(part(0, call_id, "one", text)) for call_id in ids)
    async with talking(events(*pieces, STOP, DONE), either(content="done")) as talk:
        await talk.say()
        (turn,) = await talk.turns()
        assert [call.arguments for call in turn.answer.tool_calls] == [text or "{}"] * 2


async def test_calls_without_ids_and_arguments_stay_separate(talking: Talking) -> None:
    pieces = called(part(..., ..., "one")), called(part(..., ..., "two", '{"a":1}'))
    async with talking(events(*pieces, STOP, DONE), either(content="done")) as talk:
        await talk.say()
        (turn,) = await talk.turns()
        made = [(call.tool, call.arguments) for call in turn.answer.tool_calls]
        assert made == [("one", "{}"), ("two", '{"a":1}')]


async def test_ids_that_a_host_reuses_are_made_unique(talking: Talking) -> None:
    answers = [calling("one"), calling(), calling("two"), either(content="done")]
    async with talking(*answers) as talk:
        assert await talk.say() == "done"
        (turn,) = await talk.turns()
        one, clock, two = turn.answer.tool_calls
        assert ("one" in one.output, "two" in two.output) == (True, True)
        assert re.match(r"\d{4}-", clock.output)
        shown = [
            m["tool_call_id"] for m in talk.host.requests[-1]["messages"] if "tool_call_id" in m
        ]
        assert len({*shown}) == 3


async def test_half_a_character_in_an_escape_is_an_error(talking: Talking) -> None:
    async with talking(calling(arguments=r'{"a": "\ud800"}')) as talk:
        with pytest.raises(Unavailable, match="makes no sense"):
            await talk.say()


@pytest.mark.parametrize("name", ["look_up", "", None, "a b/c", "x" * 99])
async def test_an_unknown_tool_is_reported_to_the_model(talking: Talking, name: Any) -> None:
    async with talking(calling(name), either(content="sorry")) as talk:
        assert await talk.say() == "sorry"
        *_, asked, told = talk.host.requests[-1]["messages"]
        assert "not found" in told["content"]
        assert re.fullmatch(r"[\w-]{1,64}", asked["tool_calls"][0]["function"]["name"])
        await talk.say("again")


@agents.function_tool
def parts() -> list[agents.ToolOutputText]:
    """As an MCP tool answers."""
    return [agents.ToolOutputText(text="one "), agents.ToolOutputText(text="two")]


async def test_outputs_in_parts_are_sent_as_one_text(talking: Talking) -> None:
    def extend(agent: OurAgent) -> OurAgent:
        return agent.clone(tools=[parts])

    async with talking(calling("parts"), either(content="done"), extend=extend) as talk:
        assert await talk.say() == "done"
        assert talk.host.requests[-1]["messages"][-1]["content"] == "one two"


@agents.function_tool
def file() -> str:
    """Much text."""
    return "x" * 200_000


async def test_a_long_output_does_not_push_the_conversation_out_of_the_history(
    talking: Talking,
) -> None:
    def with_file(agent: OurAgent) -> OurAgent:
        return agent.clone(tools=[file])

    async with talking(calling("file"), either(content="done"), extend=with_file) as talk:
        assert [await talk.say("Read it"), await talk.say("Again")] == ["done", "done"]
        outputs = [
            said["content"]
            for request in talk.host.requests[1:3]
            for said in request["messages"]
            if said["role"] == "tool"
        ]
        (turn, _) = await talk.turns()
    whole, kept = outputs
    assert len(whole) == 200_000
    assert kept == turn.answer.tool_calls[0].output == f"{'x' * 4000} [shortened]"


@agents.function_tool
def page() -> str:
    """Less text."""
    return "x" * 5000


async def test_many_outputs_leave_room_for_the_conversation(talking: Talking) -> None:
    def with_page(agent: OurAgent) -> OurAgent:
        return agent.clone(tools=[page])

    calls = either(tool_calls=[{"id": str(n), "function": {"name": "page"}} for n in range(40)])
    async with talking(calls, either(content="done"), extend=with_page) as talk:
        assert [await talk.say("Read all"), await talk.say("Again")] == ["done", "done"]
        assert "Read all" in json.dumps(talk.host.requests[-1])


async def test_text_before_a_tool_call_is_kept(talking: Talking) -> None:
    before = either("tool_calls", content="Let me see.", tool_calls=[{"function": CLOCK}])
    async with talking(before, either(content="It is noon.")) as talk:
        assert await talk.say() == "Let me see.\n\nIt is noon."
        (turn,) = await talk.turns()
        assert turn.answer.text == "Let me see.\n\nIt is noon."


async def test_a_model_that_says_nothing_after_a_tool_call_has_failed(
    talking: Talking,
) -> None:
    before = either("tool_calls", content="Let me see.", tool_calls=[{"function": CLOCK}])
    async with talking(before, either(content="")) as talk:
        with pytest.raises(Exception, match="no answer"):
            await talk.say()
        assert await talk.turns() == []


@pytest.mark.parametrize(
    "words",
    [
        "thinking is enabled but reasoning_content is missing in assistant tool call message at 2",
        "The `reasoning_content` in the thinking mode must be passed back to the API.",
    ],
)
async def test_a_host_that_wants_a_models_thoughts_back_gets_them(
    talking: Talking, words: str
) -> None:
    def thinking(request: dict[str, Any]) -> Reply:
        calls = [said for said in request["messages"] if said.get("tool_calls")]
        if not all(said.get("reasoning_content") for said in calls):
            return error({"error": {"message": words}})
        is_asked = request["messages"][-1]["role"] == "user"
        call = {"tool_calls": [{"function": CLOCK}]} if is_asked else {"content": "noon"}
        answer = either(reasoning_content=f"thought {len(calls)}", **call)
        assert not isinstance(answer, Reply)
        return answer(request)

    async with talking(thinking, model="kimi") as talk:
        assert [await talk.say(), await talk.say(), await talk.say()] == ["noon"] * 3
        last = [said for said in talk.host.requests[-1]["messages"] if said.get("tool_calls")]
        # Those of earlier turns are not kept.
        assert [said["reasoning_content"] for said in last] == [" ", " ", "thought 2"]


async def test_a_host_that_only_quotes_such_words_gets_no_thoughts(talking: Talking) -> None:
    def answer(request: dict[str, Any]) -> Reply:
        if any("reasoning_content" in said for said in request["messages"]):
            return error({"error": {"message": "Extra inputs are not permitted"}}, 422)
        if (text := request["messages"][-1]["content"]) != "hello":
            return error({"error": {"message": f"Bad message: {text}"}})
        fine = either(content="fine")
        assert not isinstance(fine, Reply)
        return fine(request)

    async with talking(answer) as talk:
        await talk.say("hello")
        with pytest.raises(Failed):
            await talk.say("Is reasoning_content missing?")
        assert await talk.say("hello") == "fine"


async def test_a_host_that_does_not_ask_gets_no_thoughts_back(talking: Talking) -> None:
    thoughts = {"reasoning": "hm", "reasoning_content": "hm"}
    asked = either("tool_calls", tool_calls=[{"function": CLOCK}], **thoughts)
    async with talking(asked, either(content="noon", **thoughts), model="deepseek") as talk:
        assert [await talk.say(), await talk.say()] == ["noon", "noon"]
        assert "hm" not in json.dumps(talk.host.requests)
