"""Stand-ins for what the use case and the outbox depend on, and real servers to call."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from grpc import aio

from chat_service.access.overload import Load
from chat_service.chat.conversation import Conversation
from chat_service.chat.ports import ChatMessage, Count
from chat_service.health.status import LastCall, Status
from chat_service.outbox.analytics import SettledAnalytics
from chat_service.outbox.outbox import Outbox
from chat_service.outbox.outbox_rows import OutboxEntry
from chat_service.turns.history import History, PastConversation, PastMessage
from chat_service.turns.memory import ConversationKey, Items, Turn
from chat_service.turns.stores import open_stores
from daca_shared.calls.server import GrpcServer
from daca_shared.domain import InvalidInput, NotFound, TimedOut
from lab.postgres import Place

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


class FakeAnalytics:
    """Counts from a dict; can be slow or fail."""

    def __init__(self, counts: dict[str, int] | None = None) -> None:
        self.counts = {"alice": 5, "bob": 3} if counts is None else counts
        self.failure: Exception | None = None
        self.delay_s = 0.0
        self.timeouts_s: list[float] = []
        self.way = "by a fake"
        self.last_call: LastCall | None = None

    async def message_count(self, user_id: str, *, timeout_s: float) -> int:
        self.timeouts_s.append(timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                await self._answer()
        except TimeoutError:
            raise TimedOut("Analytics did not answer in time") from None
        if user_id not in self.counts:
            raise NotFound("User not found")
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


class FakeOutbox:
    """Remembers what it accepted; can fail, or never settle."""

    def __init__(self) -> None:
        self.accepted: list[ChatMessage] = []
        self.failure: Exception | None = None
        self.settles = True

    @asynccontextmanager
    async def accept(self, message: ChatMessage) -> AsyncIterator[None]:
        yield
        if self.failure:
            raise self.failure
        self.accepted.append(message)

    async def backlog(self) -> tuple[int, datetime | None]:
        if self.failure:
            raise self.failure
        oldest = datetime.now(UTC) - timedelta(seconds=90) if self.accepted else None
        return len(self.accepted), oldest

    async def settled(self, user_id: str) -> None:
        if not self.settles:
            await asyncio.Event().wait()


class FakeMemory:
    """Remembers what it kept; can fail. Its turns never wait."""

    def __init__(self) -> None:
        self.items: dict[ConversationKey, list[dict[str, Any]]] = {}
        self.turns: list[Turn] = []
        self.failure: Exception | None = None

    @asynccontextmanager
    async def turn(self, key: ConversationKey) -> AsyncIterator[None]:
        yield

    async def recall(self, key: ConversationKey) -> Items:
        return self.items.get(key, [])

    async def keep(self, key: ConversationKey, turn: Turn) -> None:
        if self.failure:
            raise self.failure
        self.turns.append(turn)
        self.items.setdefault(key, []).extend(turn.items)


def known(count: int | None) -> Count:
    """A count that is there already."""
    future: Count = asyncio.get_running_loop().create_future()
    future.set_result(count)
    return future


def turn_of(message: ChatMessage, reply: str, *, stopped: bool = False) -> Turn:
    items = [{"role": "user", "content": message.text}]
    return Turn(message.message_id, message.text, reply, items, stopped)


class FakeAgent:
    """Echoes; can be slow or fail."""

    model = "fake"

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.delay_s = 0.0
        self.babbles = False
        """Whether a stream has no end, and makes deltas faster than anybody reads them."""
        self.counts: list[int | None] = []

    async def reply(self, message: ChatMessage, count: Count, history: Items) -> Turn:
        self.counts.append(await count)
        await asyncio.sleep(self.delay_s)
        if self.failure:
            raise self.failure
        return turn_of(message, f"You said: {message.text}")

    async def stream(
        self, message: ChatMessage, count: Count, history: Items
    ) -> AsyncGenerator[str | Turn]:
        await count
        for delta in ("You ", "said: "):
            yield delta
        while self.babbles:
            await asyncio.sleep(0)
            yield "and so on "
        turn = await self.reply(message, count, history)
        yield message.text
        yield turn

    def stopped(self, message: ChatMessage, reply: str) -> Turn:
        return turn_of(message, reply, stopped=True)


class FakeRecorder:
    """Where an outbox sends to; can fail a number of times, refuse some ids, or wait."""

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


class FakeArchive:
    """Lists what a test puts there."""

    def __init__(self) -> None:
        self.past_conversations: list[PastConversation] = []
        self.past_messages: list[PastMessage] = []

    async def conversations(
        self, user_id: str, *, before: int | None, limit: int
    ) -> list[PastConversation]:
        found = [c for c in self.past_conversations if before is None or c.seq < before]
        return found[:limit]

    async def messages(self, key: ConversationKey, *, after: int, limit: int) -> list[PastMessage]:
        return [m for m in self.past_messages if m.seq > after][:limit]


class FakeChat:
    """The use case on fakes."""

    def __init__(
        self,
        *,
        timeout_s: float = 5,
        max_text_length: int = 100,
        on_no_count: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.analytics = FakeAnalytics()
        self.outbox = FakeOutbox()
        self.memory = FakeMemory()
        self.agent = FakeAgent()
        self.archive = FakeArchive()
        self.history = History(self.archive)
        self.load = Load()
        self.stopping = False
        self.status = Status(
            self.analytics,
            self.outbox,
            self.load,
            model="fake",
            stopping=lambda: self.stopping,
        )
        self.settled = SettledAnalytics(self.analytics, self.outbox, patience_s=0.05)
        self.conversation = Conversation(
            SettledAnalytics(self.analytics, self.outbox),
            self.outbox,
            self.memory,
            self.agent,
            max_text_length=max_text_length,
            timeout_s=timeout_s,
            on_no_count=on_no_count,
        )


@asynccontextmanager
async def running_outbox(place: Place, recorder: FakeRecorder) -> AsyncIterator[Outbox]:
    """A real outbox that sends to `recorder`, until it is killed."""
    async with open_stores(place) as stores:
        outbox = Outbox(stores.outbox_rows, recorder)
        sending = asyncio.create_task(outbox.run())
        try:
            yield outbox
        finally:
            sending.cancel()
            await asyncio.wait([sending])


@asynccontextmanager
async def listening(server: GrpcServer, services: Iterable[str] = ()) -> AsyncIterator[GrpcServer]:
    """`server` on a free port of this machine."""
    await server.start(services, "127.0.0.1", 0, "TEST_PORT")
    try:
        yield server
    finally:
        await server.stop(0)


@asynccontextmanager
async def channel_to(server: GrpcServer) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


async def eventually(condition: Callable[[], Any | Awaitable[Any]], timeout_s: float = 5) -> None:
    """Return once `condition` is true; fail if it isn't in time."""
    async with asyncio.timeout(timeout_s):
        while True:
            value = condition()
            if await value if isinstance(value, Awaitable) else value:
                return
            await asyncio.sleep(0.01)
