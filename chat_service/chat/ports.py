"""What the use case is given and gives, and what it needs of the world around it."""

from asyncio import Future
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Protocol
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from chat_service.turns.memory import ConversationKey, Items, Turn
from daca_shared.domain import UserId

# JSON can smuggle in surrogates, which nothing can encode; pydantic looks for them only
# in a string with a constraint.
Text = Annotated[str, StringConstraints(max_length=1_000_000)]
"""A message's text: valid Unicode. The service's own limit is lower."""

Tags = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1, max_length=64)], ...],
    Field(max_length=20, fail_fast=True),
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


type Count = Future[int | None]
"""How many messages a user has sent before; None when that can't be known. It may still be on
its way, and the message that asks for it must not be answered before it is there."""


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


class FullAnalytics(Analytics, Protocol):
    """Analytics with what only the gateway asks of it."""

    async def activity(self, user_id: str, *, timeout_s: float) -> dict[str, int]:
        """The user's messages of each of the last days, by date."""
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

    async def keep(self, key: ConversationKey, turn: Turn) -> None:
        """Add a turn."""
        ...


class Agent(Protocol):
    """What thinks up a reply."""

    @property
    def model(self) -> str:
        """The model's name, for people."""
        ...

    async def reply(self, message: ChatMessage, count: Count, history: Items) -> Turn:
        """The whole turn. Raises a `DomainError` when the model, or `count`, fails."""
        ...

    def stream(
        self, message: ChatMessage, count: Count, history: Items
    ) -> AsyncGenerator[str | Turn]:
        """The reply's text as it comes, and last the whole turn. Raises as `reply` does; closing
        it stops the model."""
        ...

    def stopped(self, message: ChatMessage, reply: str) -> Turn:
        """The turn of a reply that was stopped after `reply`."""
        ...
