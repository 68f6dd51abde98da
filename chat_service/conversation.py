"""The use case: one chat message in, one reply out, and the message counted once."""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Protocol
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from chat_service.memory import ConversationKey, Items
from rpc.domain import DomainError, InvalidInput, NotFound, TimedOut, UserId

log = logging.getLogger(__name__)

ANALYTICS_TIMEOUT_S = 0.5
"""The most that knowing the user's count may cost a chat."""

# JSON can smuggle in surrogates, which nothing can encode; pydantic looks for them only
# in a string with a constraint.
Text = Annotated[str, StringConstraints(max_length=1_000_000)]
"""A message's text: valid Unicode. The service's own limit is lower."""

Tags = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1, max_length=64)], ...],
    Field(max_length=20),
]
"""A client's own labels: at most 20, each of 1 to 64 characters."""


class ChatMessage(BaseModel):
    """A message that a user sends. Both edges build it, so its rules are theirs."""

    model_config = ConfigDict(frozen=True)

    user_id: UserId
    text: Text
    """Not blank, and at most as long as the service allows."""
    session_id: UUID = Field(default_factory=uuid4)
    """The conversation that it belongs to; a new one unless given."""
    message_id: UUID = Field(default_factory=uuid4)
    """Its identity: a retry with the same id counts once."""
    tags: Tags = ()


@dataclass(frozen=True)
class ChatReply:
    """The agent's answer to one message."""

    message: ChatMessage
    text: str
    time: datetime
    message_count: int | None
    """How many messages the user had sent before; None when analytics could not say."""
    model: str


class Analytics(Protocol):
    """Where the counts are kept."""

    async def message_count(self, user_id: str, *, timeout_s: float) -> int:
        """Raises `NotFound` for an unknown user, another `DomainError` when it can't say."""
        ...


class Outbox(Protocol):
    """Keeps sent messages until analytics has counted them."""

    def accept(self, message: ChatMessage) -> AbstractAsyncContextManager[None]:
        """Once the context is left, the message is on disk and on its way to analytics."""
        ...

    async def settled(self, user_id: str) -> None:
        """Wait until analytics has counted what `user_id` sent before."""
        ...


class Memory(Protocol):
    """What was said in each conversation."""

    def turn(self, key: ConversationKey) -> AbstractAsyncContextManager[None]:
        """Only one turn of a conversation at a time is in this context."""
        ...

    async def recall(self, key: ConversationKey) -> Items:
        """What the latest turns of the conversation hold."""
        ...

    async def keep(self, key: ConversationKey, message_id: UUID, items: Items) -> None:
        """Add a turn."""
        ...


class Agent(Protocol):
    """What thinks up a reply."""

    @property
    def model(self) -> str:
        """The model's name, for people."""
        ...

    async def reply(
        self, message: ChatMessage, message_count: int | None, history: Items
    ) -> tuple[str, Items]:
        """The reply, and what it and the message add to the history. Raises a `DomainError`
        when the model fails."""
        ...


class Conversation:
    """Answers chat messages. One object serves all users, and holds nothing of any."""

    def __init__(
        self,
        analytics: Analytics,
        outbox: Outbox,
        memory: Memory,
        agent: Agent,
        *,
        max_text_length: int,
        timeout_s: float,
    ) -> None:
        self._analytics = analytics
        self._outbox = outbox
        self._memory = memory
        self._agent = agent
        self._max_text_length = max_text_length
        self._timeout_s = timeout_s

    async def reply(self, message: ChatMessage, *, timeout_s: float | None = None) -> ChatReply:
        """Answer `message`, within `timeout_s` if the caller has less time than we allow.

        The message counts from the moment that it is on disk, whatever the model does
        then. Raises `InvalidInput` (nothing is counted), `TimedOut`, `Unavailable`,
        `LimitReached` or `Misconfigured`.
        """
        self._check(message)
        key = ConversationKey(message.user_id, message.session_id)
        limit_s = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        try:
            async with asyncio.timeout(limit_s), self._memory.turn(key):
                async with self._outbox.accept(message):
                    count = await self._message_count(message.user_id)
                history = await self._memory.recall(key)
                text, items = await self._agent.reply(message, count, history)
                # Only now, and as a whole: a failed run leaves the history as it was.
                await self._memory.keep(key, message.message_id, items)
        except TimeoutError:
            raise TimedOut("The reply took too long; try again") from None
        return ChatReply(message, text, datetime.now(UTC), count, self._agent.model)

    def _check(self, message: ChatMessage) -> None:
        if not message.text.strip():
            raise InvalidInput.field("text", "must not be blank", "Message text cannot be empty")
        if len(message.text) > self._max_text_length:
            raise InvalidInput.field("text", f"must be at most {self._max_text_length} characters")

    async def _message_count(self, user_id: str) -> int | None:
        """The user's count so far, 0 for a new user. None if that can't be known in time:
        a wrong number would be worse than none."""
        try:
            async with asyncio.timeout(ANALYTICS_TIMEOUT_S) as limit:
                await self._outbox.settled(user_id)
                left_s = (limit.when() or 0) - asyncio.get_running_loop().time()
                return await self._analytics.message_count(user_id, timeout_s=left_s)
        except NotFound:
            return 0
        except TimeoutError:
            log.warning("no count for this chat: analytics took over %s s", ANALYTICS_TIMEOUT_S)
        except DomainError as error:
            log.warning("no count for this chat: %s", error)
        return None
