"""What chat measures of its parts, from outside of them."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from agents.items import ModelResponse, TResponseStreamEvent
from agents.models.interface import Model
from agents.retry import ModelRetryAdvice, ModelRetryAdviceRequest
from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chat_service.agent.models import ChatModel
from chat_service.health.status import Backlogged, Loaded
from daca_shared.domain import DomainError

_MODEL_LABELS = ("gen_ai_operation_name", "gen_ai_request_model")
# As the conventions have them.
_SECONDS = [0.01 * 2**n for n in range(14)]
_TOKENS = [4**n for n in range(14)]
_SCRAPE_TIMEOUT_S = 1.0

_operations = Histogram(
    "gen_ai_client_operation_duration_seconds",
    "How long requests to the model took, streams until their end.",
    (*_MODEL_LABELS, "error_type"),
    buckets=_SECONDS,
)
_first_chunks = Histogram(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "How long the first piece of a streamed reply took.",
    _MODEL_LABELS,
    buckets=_SECONDS,
)
_tokens = Histogram(
    "gen_ai_client_token_usage",
    "How many tokens requests to the model took.",
    (*_MODEL_LABELS, "gen_ai_token_type"),
    buckets=_TOKENS,
)
_fallbacks = Counter(
    "daca_chat_count_fallbacks", "Chats that were answered without a count.", ("reason",)
)

# A counter that begins at 1 has no rate.
for _reason in ("timed_out", "unavailable"):
    _fallbacks.labels(_reason)


def count_fallback(reason: str) -> None:
    """A chat is answered without its user's count."""
    _fallbacks.labels(reason).inc()


class MeasuredModel(Model):
    """A model, and how long it takes and what it uses."""

    def __init__(self, model: Model, name: str) -> None:
        self._model = model
        self._labels = ("chat", name)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """See `Model.get_response`."""
        with self._timed():
            response = await self._model.get_response(*args, **kwargs)
        self._count(response.usage)
        return response

    async def stream_response(
        self, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[TResponseStreamEvent]:
        """See `Model.stream_response`."""
        began: float | None = time.perf_counter()
        with self._timed():
            async for event in self._model.stream_response(*args, **kwargs):
                # What comes before says only that something will.
                if began is not None and str(event.type).endswith(".delta"):
                    self._first_chunk(began)
                    began = None
                if event.type == "response.completed":
                    self._count(event.response.usage)
                yield event

    def get_retry_advice(self, request: ModelRetryAdviceRequest) -> ModelRetryAdvice | None:
        """The model's own."""
        return self._model.get_retry_advice(request)

    async def close(self) -> None:
        """Close the model."""
        await self._model.close()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began, error_type = time.perf_counter(), ""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            error_type = "cancelled"
            raise
        except BaseException as error:
            error_type = type(error).__name__
            raise
        finally:
            _operations.labels(*self._labels, error_type).observe(time.perf_counter() - began)

    def _first_chunk(self, began: float) -> None:
        _first_chunks.labels(*self._labels).observe(time.perf_counter() - began)

    def _count(self, usage: Any) -> None:
        # A host may say nothing, which is not the same as none, or nonsense.
        for kind in ("input", "output"):
            count = getattr(usage, f"{kind}_tokens", None)
            if isinstance(count, int) and count:
                _tokens.labels(*self._labels, kind).observe(count)


def measured(model: ChatModel) -> ChatModel:
    """The same model, measured."""
    return replace(model, model=MeasuredModel(model.model, model.name))


class Streaming(Protocol):
    """The use case, from outside."""

    @property
    def streams(self) -> int:
        """How many streams are open."""
        ...


@contextmanager
def observed(load: Loaded, outbox: Backlogged, conversation: Streaming) -> Iterator[None]:
    """Each scrape tells how things stand with these."""
    collector = _State(load, outbox, conversation, asyncio.get_running_loop())
    REGISTRY.register(collector)
    try:
        yield
    finally:
        REGISTRY.unregister(collector)


class _State(Collector):
    def __init__(
        self,
        load: Loaded,
        outbox: Backlogged,
        conversation: Streaming,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._load = load
        self._outbox = outbox
        self._conversation = conversation
        self._loop = loop

    def describe(self) -> list[Metric]:
        """Nothing: the registry would collect otherwise, on the loop that `collect` waits for."""
        return []

    def collect(self) -> Iterator[Metric]:
        """How things stand; called from the thread of a scrape."""
        yield GaugeMetricFamily("daca_chats", "Chats under way.", self._load.chats)
        yield GaugeMetricFamily("daca_chat_streams", "Streams open.", self._conversation.streams)
        yield CounterMetricFamily(
            "daca_chats_turned_away", "Chats refused for overload.", self._load.turned_away
        )
        asked = asyncio.run_coroutine_threadsafe(self._outbox.backlog(), self._loop)
        try:
            entries, oldest = asked.result(_SCRAPE_TIMEOUT_S)
        except (TimeoutError, DomainError):
            return  # not known now; a number would be a guess
        age_s = (datetime.now(UTC) - oldest).total_seconds() if oldest else 0.0
        yield GaugeMetricFamily("daca_outbox_entries", "Messages not known as counted.", entries)
        yield GaugeMetricFamily(
            "daca_outbox_oldest_age_seconds", "How old the oldest of them is.", max(0.0, age_s)
        )
