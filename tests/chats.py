"""The real use case with real stores and an outbox, and a fake analytics that counts."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID, uuid5

from chat_service.chat.conversation import Conversation
from chat_service.chat.messages import Answer, ChatMessage, ConversationKey, Say, Turn
from chat_service.chat.ports import Agent
from chat_service.outbox.analytics import SettledCounts
from daca_shared.domain import NotFound
from daca_shared.storage.database import Statements
from lab.postgres import Place
from tests.fakes import (
    ChatStores,
    FakeAgent,
    FakeAnalytics,
    FakeRecorder,
    running_stores,
    turn_of,
)

SESSION = UUID("7f6f8f5e-0000-4000-8000-000000000001")


class CountingAnalytics(FakeAnalytics):
    """Counts the messages that a recorder received, each id once."""

    def __init__(self, recorder: FakeRecorder) -> None:
        super().__init__()
        self._recorder = recorder

    async def message_count(self, user_id: str, *, timeout_s: float) -> int:
        ids = {e.message_id for e in self._recorder.recorded if e.user_id == user_id}
        if not ids:
            raise NotFound("User not found")
        return len(ids)


class StoredChat:
    """The parts of one chat process."""

    def __init__(self, stores: ChatStores, agent: Agent, recorder: FakeRecorder) -> None:
        self.stores = stores
        self.analytics = CountingAnalytics(recorder)
        self.counts = SettledCounts(self.analytics, stores.outbox)
        self.conversation = Conversation(
            self.counts, stores.turns, stores.locks, agent, max_text_length=100, timeout_s=30
        )

    async def say(
        self, text: str, user_id: str = "alice", session_id: UUID = SESSION, **limits: float
    ) -> str:
        message = ChatMessage(user_id=user_id, text=text, session_id=session_id)
        return (await self.conversation.reply(message, **limits)).answer.text

    async def ask(self, message: ChatMessage) -> Turn:
        return await self.conversation.reply(message)

    async def stop(self, message: ChatMessage, *, after: int = 1) -> None:
        """Stream the reply, and disconnect after some pieces of it."""
        events = self.conversation.stream(message)
        for _ in range(after):
            await anext(events)
        if not after:
            # The reply has begun, but has no text yet.
            reading = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0.2)
            reading.cancel()
            await asyncio.wait([reading])
        await events.aclose()
        await self.conversation.close()

    async def history(self, user_id: str = "alice", session_id: UUID = SESSION) -> list[Turn]:
        return await self.stores.turns.latest(ConversationKey(user_id, session_id))

    async def count(self, user_id: str = "alice") -> int:
        """How many of the user's messages are counted, once all kept ones are."""
        try:
            return await self.counts.message_count(user_id, timeout_s=5)
        except NotFound:
            return 0


class SlowAgent(FakeAgent):
    """Replies only once told to. Notes the history it was given, and how many runs overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.running: list[ConversationKey] = []
        self.most_at_once: dict[ConversationKey, int] = {}
        self.seen: list[list[str]] = []

    async def answer(
        self,
        message: ChatMessage,
        count: int | None,
        history: Sequence[Turn],
        say: Say | None = None,
    ) -> Answer:
        key = message.conversation
        self.running.append(key)
        self.most_at_once[key] = max(self.most_at_once.get(key, 0), self.running.count(key))
        self.seen.append([turn.prompt for turn in history])
        try:
            if say:
                say("wait")
            await self.go.wait()
        finally:
            self.running.remove(key)
        return Answer(f"answer {len(self.seen)}")


@asynccontextmanager
async def chatting(
    place: Place, agent: Agent, recorder: FakeRecorder | None = None
) -> AsyncIterator[StoredChat]:
    recorder = recorder or FakeRecorder()
    async with running_stores(place, recorder) as stores:
        yield StoredChat(stores, agent, recorder)


def message(user_id: str = "alice") -> ChatMessage:
    return ChatMessage(user_id=user_id, text="hi")


def id_of(one: ChatMessage) -> UUID:
    """The id under which the message is counted."""
    return uuid5(one.message_id, one.user_id)


async def send(stores: ChatStores, *messages: ChatMessage) -> list[UUID]:
    """Keep the turns of these messages, one after another."""
    for one in messages:
        async with stores.locks.turn(one.conversation):
            await stores.turns.keep(turn_of(one, "ok"))
    return [id_of(one) for one in messages]


async def send_at_once(stores: ChatStores, *messages: ChatMessage) -> list[UUID]:
    """Add these messages to the outbox together, without keeping their turns."""
    adding = [stores.outbox.adding(turn_of(one, "ok")) for one in messages]

    async def add_all(statements: Statements) -> None:
        for add in adding:
            await add(statements)

    await stores.database.write(add_all)
    stores.outbox.send_soon()
    return [id_of(one) for one in messages]
