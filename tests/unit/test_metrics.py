import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from agents import ModelResponse, ModelSettings

from chat_service.access.admission import Admission
from chat_service.agent.agent import ChatAgent
from chat_service.agent.models import ChatModel
from chat_service.agent.offline import OfflineModel
from chat_service.chat.messages import ChatMessage, ToolCall
from chat_service.health.metrics import measured, observed
from daca_shared.addresses import PortTaken
from daca_shared.domain import DomainError, Unavailable
from daca_shared.observe.metrics import serving_metrics, watch_lag
from daca_shared.settings import ServiceSettings
from lab.postgres import Place
from tests.fakes import FOREVER_S, FakeChat, eventually, opened_stores, turn_of
from tests.model_server import Fault, ModelServer, model_server
from tests.reports import sample, scraped, total
from tests.unit.test_agent import choose, model

__all__ = ["choose", "model", "server"]
MESSAGE = ChatMessage(user_id="alice", text="hi")
DURATION = "gen_ai_client_operation_duration_seconds_count"
LAG = "daca_event_loop_lag_seconds"
FIRST_CHUNK = "gen_ai_client_operation_time_to_first_chunk_seconds_count"


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with model_server() as server:
        yield server


def operations(error_type: str = "") -> float:
    return total(DURATION, gen_ai_request_model="m", error_type=error_type)


def tokens(kind: str) -> float:
    return total("gen_ai_client_token_usage_sum", gen_ai_token_type=kind)


async def test_a_models_time_and_tokens_are_measured(model: ChatModel) -> None:
    before, used = operations(), [tokens(kind) for kind in ("input", "output")]
    await ChatAgent(measured(model, 30)).answer(MESSAGE, 5, [])
    assert operations() == before + 1
    assert tokens("input") > used[0]
    assert tokens("output") > used[1]


async def test_a_streams_first_chunk_is_measured_too() -> None:
    offline = ChatModel("streamed", OfflineModel(pause_s=0.02), ModelSettings())
    await ChatAgent(measured(offline, 30)).answer(MESSAGE, 5, [], lambda text: None)
    streamed = {"gen_ai_request_model": "streamed"}
    assert total(DURATION, **streamed) == total(FIRST_CHUNK, **streamed) == 1
    first = FIRST_CHUNK.replace("_count", "_sum")
    assert total(first, **streamed) < total(DURATION.replace("_count", "_sum"), **streamed)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(status=401), "AuthenticationError"),
        (Fault(status=400, message="max_tokens is too large"), "BadRequestError"),
        (Fault(status=400, message="context_length_exceeded"), "too_long"),
        (Fault(status=400, message="refused by content_filter"), "filtered"),
    ],
)
async def test_a_models_failure_is_measured_by_its_kind(
    model: ChatModel, server: ModelServer, fault: Fault, kind: str
) -> None:
    server.faults = [fault]
    before = operations(kind)
    with pytest.raises(DomainError) as told:
        await ChatAgent(measured(model, 30)).answer(MESSAGE, 5, [])
    assert operations(kind) == before + 1
    server.faults = [fault]
    with pytest.raises(type(told.value), match=re.escape(told.value.message)):
        await ChatAgent(model).answer(MESSAGE, 5, [])


async def test_a_disconnected_stream_counts_as_cancelled() -> None:
    offline = ChatModel("left", OfflineModel(pause_s=0.05), ModelSettings())
    words: list[str | ToolCall] = []
    agent = ChatAgent(measured(offline, 30))
    answering = asyncio.create_task(agent.answer(MESSAGE, 5, [], words.append))
    await eventually(lambda: words)
    answering.cancel()
    left = {"gen_ai_request_model": "left", "error_type": "cancelled"}
    await eventually(lambda: total(DURATION, **left) == 1)


async def test_a_whole_answer_that_never_comes_counts_as_timed_out() -> None:
    class Silent(OfflineModel):
        async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
            await asyncio.sleep(FOREVER_S)
            return await super().get_response(*args, **kwargs)

    silent = ChatModel("silent", Silent(), ModelSettings())
    answering = asyncio.create_task(ChatAgent(measured(silent, 0.1)).answer(MESSAGE, 5, []))
    await asyncio.sleep(0.2)
    answering.cancel()
    late = {"gen_ai_request_model": "silent", "error_type": "timed_out"}
    await eventually(lambda: total(DURATION, **late) == 1)


@pytest.mark.parametrize(
    ("failure", "delay_s", "reason"),
    [(Unavailable("away"), 0, "unavailable"), (None, 1, "timed_out")],
)
async def test_a_chat_without_a_count_is_counted_by_its_reason(
    failure: Exception | None, delay_s: float, reason: str
) -> None:
    chat = FakeChat()
    chat.analytics.failure, chat.analytics.delay_s = failure, delay_s
    with observed(chat.admission, chat.outbox, chat.conversation):
        before = await asyncio.to_thread(sample, "daca_chat_count_fallbacks_total", reason=reason)
        assert (await chat.conversation.reply(MESSAGE)).message_count is None
        after = await asyncio.to_thread(sample, "daca_chat_count_fallbacks_total", reason=reason)
    assert after == before + 1


async def test_a_scrape_reports_the_current_state(
    environment: pytest.MonkeyPatch, place: Place
) -> None:
    chat, admission = FakeChat(), Admission()
    async with opened_stores(place) as stores:
        async with stores.locks.turn(MESSAGE.conversation):
            await stores.turns.keep(turn_of(MESSAGE, "hello"))
        admission.turned_away = 3
        stores.outbox.refused = 2
        chat.agent.delay_s = 5
        stream = chat.conversation.stream(MESSAGE)
        await anext(stream)
        with (
            admission,
            serving_metrics(ServiceSettings(), 0, "PORT") as port,
            observed(admission, stores.outbox, chat.conversation),
        ):
            text = await asyncio.to_thread(scraped, port)
        await stream.aclose()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert values["daca_chats"] == "1.0"
    assert values["daca_chat_streams"] == "1.0"
    assert values["daca_chats_turned_away_total"] == "3.0"
    assert values["daca_outbox_refused_total"] == "2.0"
    assert values["daca_outbox_entries"] == "1.0"
    assert 0 < float(values["daca_outbox_oldest_age_seconds"]) < 5
    assert float(values["process_resident_memory_bytes"]) > 1e6


async def test_a_scrape_without_a_database_reports_the_rest(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with opened_stores(tmp_path / "chat.db") as stores:
        pass
    with (
        serving_metrics(ServiceSettings(), 0, "PORT") as port,
        observed(Admission(), stores.outbox, FakeChat().conversation),
    ):
        text = await asyncio.to_thread(scraped, port)
    assert "daca_chats " in text
    assert "daca_outbox_entries" not in text


async def test_a_pause_of_the_event_loop_weighs_as_much_as_it_takes() -> None:
    def later_than(limit: float) -> float:
        return total(f"{LAG}_count") - total(f"{LAG}_bucket", le=str(limit))

    told: list[float] = []
    watching = asyncio.create_task(watch_lag(told.append))
    await asyncio.sleep(0.01)
    before = later_than(0.1)
    time.sleep(0.6)  # noqa: ASYNC251 - as a tool does that blocks the event loop
    await eventually(lambda: told)
    watching.cancel()
    assert later_than(0.1) - before >= 9  # one each 0.05 s, up to 0.1 s before its end
    assert told[0] > 0.5


def test_two_processes_cannot_share_the_port(environment: pytest.MonkeyPatch) -> None:
    settings = ServiceSettings()
    with serving_metrics(settings, 0, "THE_PORT") as port:
        with (
            pytest.raises(PortTaken, match="THE_PORT"),
            serving_metrics(settings, port, "THE_PORT"),
        ):
            pass
        assert "process_cpu_seconds_total" in scraped(port)


def test_metrics_can_be_off(environment: pytest.MonkeyPatch) -> None:
    with serving_metrics(ServiceSettings(), None, "PORT") as port:
        assert port is None
