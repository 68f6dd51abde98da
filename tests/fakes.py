"""Fakes of what the use case and the outbox depend on, and real servers to call."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from grpc import aio

from chat_service.access.admission import Admission
from chat_service.access.identity import Identity
from chat_service.access.rates import Rates
from chat_service.access.trusted_hosts import TrustedHosts
from chat_service.app import SCHEMA
from chat_service.chat.conversation import Conversation
from chat_service.chat.messages import Answer, ChatMessage, ConversationKey, Say, Turn
from chat_service.health.status import Status
from chat_service.outbox.analytics import AnalyticsClient, SettledCounts
from chat_service.outbox.outbox import Outbox, OutboxEntry
from chat_service.turns import history
from chat_service.turns.history import ConversationsQuery, MessagesQuery, Page, PastConversation
from chat_service.turns.leases import TurnLeases, TurnLocks
from chat_service.turns.store import TurnStore
from daca_shared.calls.server import GrpcServer
from daca_shared.domain import InvalidInput, NotFound, TimedOut
from daca_shared.observe.metrics import watch_lag
from daca_shared.storage.database import Database, open_database
from lab.postgres import Place

ANY_HOST = TrustedHosts("127.0.0.1", "*")
FREE: dict[str, Any] = {"identity": Identity(), "rates": Rates()}
"""No authentication and no rate limits."""

BAD_USER_IDS = {
    "empty": "",
    "blank": "   ",
    "129 characters": "a" * 129,
    "slash": "a/b",
    "backslash": "a\\b",
    "NUL": "a\x00b",
    "line feed": "a\nb",
    "trailing line feed": "ab\n",
    "line separator": "a\u2028b",
}
FOREVER_S = 60.0


class FakeAnalytics(AnalyticsClient):
    """Reads counts from a dict. Can be slow or fail."""

    def __init__(self, counts: dict[str, int] | None = None) -> None:
        self.counts = {"alice": 5, "bob": 3} if counts is None else counts
        self.failure: Exception | None = None
        self.delay_s = 0.0
        self.timeouts_s: list[float] = []
        self.way = "by a fake"
        self.last_call = None

    async def message_count(self, user_id: str, *, timeout_s: float) -> int:
        self.timeouts_s.append(timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await self._answer()
        except TimeoutError:
            raise TimedOut("Analytics did not answer in time") from None
        if user_id not in self.counts:
            raise NotFound("User not found", code="USER_NOT_FOUND")
        return self.counts[user_id]

    async def activity(self, user_id: str, *, timeout_s: float) -> dict[str, int]:
        return {
            "2026-01-01": 0,
            "2026-01-02": await self.message_count(user_id, timeout_s=timeout_s),
        }

    async def check(self) -> None:
        await self._answer()

    async def _answer(self) -> None:
        await asyncio.sleep(self.delay_s)
        if self.failure:
            raise self.failure


class FakeOutbox(Outbox):
    """Has the backlog that a test sets. Can fail, or never settle."""

    def __init__(self) -> None:
        self.waiting = 0
        self.failure: Exception | None = None
        self.settles = True

    async def backlog(self) -> tuple[int, datetime | None]:
        if self.failure:
            raise self.failure
        oldest = datetime.now(UTC) - timedelta(seconds=90) if self.waiting else None
        return self.waiting, oldest

    async def settled(self, user_id: str, timeout_s: float | None = None) -> bool:
        if not self.settles:
            await asyncio.sleep(FOREVER_S if timeout_s is None else timeout_s)
        return self.settles


class FakeTurns(TurnStore):
    """Remembers the kept turns, and lists what a test puts there. Can fail."""

    def __init__(self) -> None:
        self.kept: list[Turn] = []
        self.failure: Exception | None = None
        self.past_conversations: list[PastConversation] = []

    async def find(self, user_id: str, message_id: UUID) -> Turn | None:
        found = [
            turn
            for turn in self.kept
            if (turn.conversation.user_id, turn.message_id) == (user_id, message_id)
        ]
        return found[0] if found else None

    async def latest(self, key: ConversationKey, *, before: Turn | None = None) -> list[Turn]:
        end = before.seq if before else len(self.kept) + 1
        return [turn for turn in self.kept if turn.conversation == key and turn.seq < end]

    async def keep(self, turn: Turn) -> Turn:
        if self.failure:
            raise self.failure
        earlier = await self.find(turn.conversation.user_id, turn.message_id)
        if earlier and not earlier.stopped and earlier.seq != turn.seq:
            return earlier
        if earlier:
            self.kept[earlier.seq - 1] = replace(turn, seq=earlier.seq)
        else:
            self.kept.append(replace(turn, seq=len(self.kept) + 1))
        return self.kept[earlier.seq - 1 if earlier else -1]

    async def rename(self, key: ConversationKey, title: str) -> PastConversation:
        for n, one in enumerate(self.past_conversations):
            if one.session_id == key.session_id:
                self.past_conversations[n] = replace(one, title=title)
                return self.past_conversations[n]
        raise NotFound("Conversation not found", code="CONVERSATION_NOT_FOUND")

    async def delete(self, key: ConversationKey) -> None:
        if not any(turn.conversation == key for turn in self.kept):
            raise NotFound("Conversation not found", code="CONVERSATION_NOT_FOUND")
        self.kept = [turn for turn in self.kept if turn.conversation != key]

    async def conversations(self, query: ConversationsQuery) -> Page[PastConversation]:
        before = query.after_seq(default=len(self.past_conversations) + 1)
        found = [c for c in self.past_conversations if c.seq < before and query.filter in c.title]
        return history.page_of(found, query.limit)

    async def messages(self, query: MessagesQuery) -> Page[Turn]:
        key, after = ConversationKey(query.user_id, query.session_id), query.after_seq(default=0)
        found = [turn for turn in self.kept if turn.conversation == key and turn.seq > after]
        return history.page_of_turns(found, query.limit)


def turn_of(message: ChatMessage, reply: str, *, stopped: bool = False) -> Turn:
    return Turn(
        conversation=message.conversation,
        message_id=message.message_id,
        prompt=message.text,
        answer=Answer(reply),
        stopped=stopped,
        message_count=None,
        model="fake",
        end_time=datetime.now(UTC),
    )


class FakeAgent:
    """Echoes the message. Can be slow or fail."""

    model = "fake"

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.delay_s = 0.0
        self.babbles = False
        """Whether streams are endless, with deltas faster than anybody reads them."""
        self.is_silent = False
        """Whether a stream sends no deltas before the complete reply."""
        self.counts: list[int | None] = []
        self.histories: list[Sequence[Turn]] = []
        self.messages: list[ChatMessage] = []

    async def answer(
        self,
        message: ChatMessage,
        count: int | None,
        history: Sequence[Turn],
        say: Say | None,
    ) -> Answer:
        self.counts.append(count)
        self.histories.append(history)
        self.messages.append(message)
        if say and not self.is_silent:
            for delta in ("You ", "said: "):
                say(delta)
                await asyncio.sleep(0)
            while self.babbles:
                await asyncio.sleep(0)
                say("and so on ")
        await asyncio.sleep(self.delay_s)
        if self.failure:
            raise self.failure
        if say:
            say(message.text)
        return Answer(f"You said: {message.text}")


class Shouting(FakeAgent):
    """Replies with more text than any buffer holds."""

    async def answer(
        self,
        message: ChatMessage,
        count: int | None,
        history: Sequence[Turn],
        say: Say | None,
    ) -> Answer:
        for _ in range(200):
            assert say
            say("x" * 100_000)
        return Answer("at last")


class FakeRecorder:
    """Receives what an outbox sends. Can fail a number of times, refuse some ids, or wait."""

    def __init__(self) -> None:
        self.recorded: list[OutboxEntry] = []
        self.failures: list[Exception] = []
        self.refused: set[UUID] = set()
        self.open = asyncio.Event()
        self.open.set()

    @property
    def ids(self) -> list[UUID]:
        return [entry.message_id for entry in self.recorded]

    async def record(self, entries: Sequence[OutboxEntry]) -> None:
        await self.open.wait()
        if self.failures:
            raise self.failures.pop(0)
        if self.refused & {entry.message_id for entry in entries}:
            raise InvalidInput([], "refused")
        self.recorded.extend(entries)


class FakeChat:
    """The use case with fakes."""

    def __init__(self, *, timeout_s: float = 20, max_text_length: int = 100) -> None:
        self.analytics = FakeAnalytics()
        self.outbox = FakeOutbox()
        self.turns = FakeTurns()
        self.agent = FakeAgent()
        self.admission = Admission()
        self.stopping = False
        self.problem: str | None = None
        self.status = Status(
            self.analytics,
            self.outbox,
            self.admission,
            model="fake",
            stopping=lambda: self.stopping,
            problem=lambda: self.problem,
        )
        self.counts = SettledCounts(self.analytics, self.outbox)
        self.conversation = Conversation(
            self.counts,
            self.turns,
            TurnLocks(),
            self.agent,
            max_text_length=max_text_length,
            timeout_s=timeout_s,
        )


@asynccontextmanager
async def watched(admission: Admission) -> AsyncIterator[None]:
    """Report this event loop's lag to an admission, as if the loop had been idle before."""
    admission.note_lag(0)
    watching = asyncio.create_task(watch_lag(admission.note_lag))
    try:
        yield
    finally:
        watching.cancel()


class ChatStores:
    """The stores of a chat process, with an outbox that sends to `recorder`."""

    def __init__(self, database: Database, recorder: FakeRecorder) -> None:
        self.database = database
        self.outbox = Outbox(database, recorder.record)
        self.locks = TurnLeases(database) if database.is_shared else TurnLocks()
        self.turns = TurnStore(database, self.outbox, self.locks)

    async def conversations(self, user_id: str = "alice") -> list[PastConversation]:
        return (await self.turns.conversations(ConversationsQuery(user_id=user_id))).items

    async def messages(self, key: ConversationKey) -> list[Turn]:
        query = MessagesQuery(user_id=key.user_id, session_id=key.session_id)
        return (await self.turns.messages(query)).items


@asynccontextmanager
async def opened_stores(
    place: Place, recorder: FakeRecorder | None = None
) -> AsyncIterator[ChatStores]:
    """The stores of a chat process, whose outbox doesn't run."""
    database = await open_database(place, "chat", SCHEMA)
    try:
        yield ChatStores(database, recorder or FakeRecorder())
    finally:
        await database.close()


@asynccontextmanager
async def running_stores(place: Place, recorder: FakeRecorder) -> AsyncIterator[ChatStores]:
    """The stores of a chat process, whose outbox runs until it is cancelled."""
    async with opened_stores(place, recorder) as stores, sending(stores.outbox):
        yield stores


@asynccontextmanager
async def sending(outbox: Outbox) -> AsyncIterator[Outbox]:
    """Run an outbox until it is cancelled."""
    task = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def listening(server: GrpcServer) -> AsyncIterator[GrpcServer]:
    """Run `server` on a free port of this machine."""
    await server.start("127.0.0.1", 0, "TEST_PORT")
    try:
        yield server
    finally:
        await server.stop(0)


@asynccontextmanager
async def channel_to(server: GrpcServer) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


async def eventually(condition: Callable[[], Any | Awaitable[Any]], timeout_s: float = 15) -> None:
    """Wait until `condition` is true; fail if it isn't in time."""
    async with asyncio.timeout(timeout_s):
        while True:
            value = condition()
            if await value if isinstance(value, Awaitable) else value:
                return
            await asyncio.sleep(0.01)
