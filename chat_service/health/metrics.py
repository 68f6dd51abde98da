"""Metrics of the chat service, measured from outside: its parts know nothing of them."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agents import Model, ModelResponse, ModelRetryAdvice, ModelRetryAdviceRequest
from agents.items import TResponseStreamEvent
from prometheus_client import REGISTRY, Histogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.registry import Collector

from chat_service.access.admission import Admission
from chat_service.agent.models import ChatModel
from chat_service.chat.conversation import Conversation
from chat_service.hosts.refusals import FILTERED, LACKS_TOOLS, TOO_LONG, refuses
from chat_service.outbox.outbox import Outbox
from daca_shared.domain import DomainError

_MODEL_LABELS = ("gen_ai_operation_name", "gen_ai_request_model")
# The buckets that OpenTelemetry's conventions recommend.
_SECONDS = [0.01 * 2**n for n in range(14)]
_TOKENS = [4**n for n in range(14)]
_SCRAPE_TIMEOUT_S = 1.0
# Refusals after which the model is asked again, or that are about the user's own text. The host
# works, so they get error types of their own, which no alert takes for failures.
REFUSALS = {"too_long": TOO_LONG, "lacks_tools": LACKS_TOOLS, "filtered": FILTERED}

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


class MeasuredModel(Model):
    def __init__(self, model: ChatModel, timeout_s: float) -> None:
        self._model, self._labels = model.model, ("chat", model.name)
        self._timeout_s = timeout_s

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        with self._timed(self._timeout_s):
            response = await self._model.get_response(*args, **kwargs)
        self._count(response.usage)
        return response

    async def stream_response(
        self, *args: Any, **kwargs: Any
    ) -> AsyncGenerator[TResponseStreamEvent]:
        began: float | None = time.perf_counter()
        with self._timed():
            async for event in self._model.stream_response(*args, **kwargs):
                # Events before the first delta hold no piece of the reply.
                if began is not None and str(event.type).endswith(".delta"):
                    _first_chunks.labels(*self._labels).observe(time.perf_counter() - began)
                    began = None
                if event.type == "response.completed":
                    self._count(event.response.usage)
                yield event

    def get_retry_advice(self, request: ModelRetryAdviceRequest) -> ModelRetryAdvice | None:
        return self._model.get_retry_advice(request)

    @contextmanager
    def _timed(self, limit_s: float = math.inf) -> Iterator[None]:
        """A request that is cancelled after `limit_s` counts as the model's timeout."""
        began, error_type = time.perf_counter(), ""
        try:
            yield
        except BaseException as error:
            names = (name for name, pattern in REFUSALS.items() if refuses(error, pattern))
            error_type = next(names, type(error).__name__)
            if isinstance(error, asyncio.CancelledError | GeneratorExit):
                is_late = time.perf_counter() - began > limit_s
                error_type = "timed_out" if is_late else "cancelled"
            raise
        finally:
            _operations.labels(*self._labels, error_type).observe(time.perf_counter() - began)

    def _count(self, usage: Any) -> None:
        # A host may send no usage, which doesn't mean 0, or nonsense.
        for kind in ("input", "output"):
            count = getattr(usage, f"{kind}_tokens", None)
            if isinstance(count, int) and count:
                _tokens.labels(*self._labels, kind).observe(count)


def measured(model: ChatModel, timeout_s: float) -> ChatModel:
    """The model with metrics of its requests. A request that isn't streamed, and is cancelled after
    `timeout_s`, has timed out."""
    return replace(model, model=MeasuredModel(model, timeout_s))


@contextmanager
def observed(admission: Admission, outbox: Outbox, conversation: Conversation) -> Iterator[None]:
    """Inside this context, each scrape of the metrics includes the current state of these parts."""
    loop = asyncio.get_running_loop()

    class State(Collector):
        def describe(self) -> list[Metric]:
            """Empty, as otherwise the registry calls `collect` on the event loop: a deadlock."""
            return []

        def collect(self) -> Iterator[Metric]:
            """Called from the thread of a scrape."""
            meaning = "Chats whose count was not known in time."
            fallbacks = CounterMetricFamily("daca_chat_count_fallbacks", meaning, labels=["reason"])
            # From 0, as Prometheus sees no increase in a counter that appears as 1.
            for reason in ("timed_out", "unavailable"):
                fallbacks.add_metric([reason], conversation.no_counts[reason])
            yield fallbacks
            refused = admission.turned_away
            yield Gauge("daca_chats", "Chats under way.", admission.chats)
            yield Gauge("daca_chat_streams", "Streams open.", len(conversation.streams))
            yield CounterMetricFamily("daca_chats_turned_away", "Refused for overload.", refused)
            meaning = "Messages that analytics refuses to count."
            yield CounterMetricFamily("daca_outbox_refused", meaning, outbox.refused)
            backlog = asyncio.run_coroutine_threadsafe(outbox.backlog(), loop)
            try:
                entries, oldest = backlog.result(_SCRAPE_TIMEOUT_S)
            except (TimeoutError, DomainError):
                return  # not known now; a number would be a guess
            age_s = max(0.0, (datetime.now(UTC) - oldest).total_seconds()) if oldest else 0.0
            yield Gauge("daca_outbox_entries", "Messages not yet counted, up to 10,000.", entries)
            yield Gauge("daca_outbox_oldest_age_seconds", "The age of the oldest of them.", age_s)

    state = State()
    REGISTRY.register(state)
    try:
        yield
    finally:
        REGISTRY.unregister(state)
