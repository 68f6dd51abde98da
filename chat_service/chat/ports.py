"""What the use case needs from the world around it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

from chat_service.chat.messages import Answer, ChatMessage, ConversationKey, Say, Turn


class Counts(Protocol):
    """How many messages each user has sent, as analytics has counted them."""

    async def message_count(self, user_id: str, *, timeout_s: float) -> int:
        """The count, once all of the user's kept turns are in it. Raises `NotFound` for an unknown
        user, `TimedOut` or `Unavailable` when analytics doesn't answer."""


class Turns(Protocol):
    """The kept turns. Each call raises `Unavailable` if the storage fails."""

    async def find(self, user_id: str, message_id: UUID) -> Turn | None:
        """The user's turn with this message id, if there is one."""

    async def latest(self, key: ConversationKey, *, before: Turn | None = None) -> Sequence[Turn]:
        """The conversation's latest turns, or the latest ones before `before`; oldest first."""

    async def keep(self, turn: Turn) -> Turn:
        """Keep a turn and, in the same transaction, add its message to the outbox. It replaces the
        kept turn with its `seq`, or a stopped turn of the same message. A finished turn of the same
        message that was kept in the meantime stays, and is returned instead."""

    async def delete(self, key: ConversationKey) -> None:
        """Delete the conversation with its turns, for good. Raises `NotFound`."""


class Locks(Protocol):
    """Lets one turn of a conversation run at a time, across all processes."""

    def message(self, user_id: str, message_id: UUID) -> AbstractAsyncContextManager[None]:
        """While this is held, nobody else in this process answers the message, not even in
        another conversation. Take this lock before `turn`."""

    def turn(self, key: ConversationKey) -> AbstractAsyncContextManager[None]:
        """While this is held, no other turn of the conversation runs. Raises `Unavailable`."""


class Agent(Protocol):
    model: str

    async def answer(
        self, message: ChatMessage, count: int | None, history: Sequence[Turn], say: Say | None
    ) -> Answer:
        """The reply to `message`, whose user has sent `count` messages before, if that is known.
        `say` gets its pieces as they come. Raises `DomainError`. Cancelling it stops the model."""
