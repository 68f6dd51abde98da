"""The data of the use case: the message sent, and the turn that is kept, with the reply."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID, uuid4, uuid5

from pydantic import BaseModel, Field, StringConstraints

from daca_shared.domain import UserId

# Pydantic rejects lone surrogates, which can't be encoded, only in a string with a constraint.
Text = Annotated[str, StringConstraints(max_length=1_000_000)]
"""A message's text: valid Unicode. The service's own limit is lower."""

type Said = tuple[Literal["system", "user", "assistant"], str]

Tags = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1, max_length=64)], ...],
    Field(max_length=20, fail_fast=True),
]
"""A client's own labels: at most 20, each of 1 to 64 characters."""

Title = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    Field(json_schema_extra={"pattern": r"\S"}),
]
"""What a user calls a conversation: 1 to 200 characters, not blank."""


@dataclass(frozen=True)
class ConversationKey:
    """The user id is in it, so that nobody reads another's history by guessing a session id."""

    user_id: str
    session_id: UUID


class ChatMessage(BaseModel, frozen=True):
    """A message that a user sends. HTTP and gRPC build it, so its rules hold for both."""

    user_id: UserId
    text: Text
    """Not blank, and at most as long as the service allows."""
    message_id: UUID = Field(default_factory=uuid4)
    """Its identity: a message that is sent again with the same id is answered and counted once."""
    session_id: UUID = Field(
        default_factory=lambda fields: uuid5(fields.get("message_id") or uuid4(), "session")
    )
    """The conversation that it belongs to; a new one unless given. It is derived from the message
    id, so that a first message sent again finds its conversation."""
    tags: Tags = ()
    history: tuple[Said, ...] = ()
    """Who said what before, if the client keeps the history itself."""
    regenerate: bool = False
    """Whether to answer again a message that was answered before, replacing its reply."""

    @property
    def conversation(self) -> ConversationKey:
        return ConversationKey(self.user_id, self.session_id)

    @property
    def may_be_known(self) -> bool:
        """Whether the client chose the id, and so may have sent the message before."""
        return "message_id" in self.model_fields_set


@dataclass(frozen=True)
class ToolCall:
    tool: str
    arguments: str
    """As JSON."""
    output: str = ""
    """Empty while the tool runs; only the beginning of a long output."""


type Say = Callable[[str | ToolCall], None]
"""Called with each piece of a reply's text as it comes, and with each tool call as it begins."""


@dataclass(frozen=True)
class Answer:
    text: str
    tool_calls: Sequence[ToolCall] = ()


@dataclass(frozen=True)
class Turn:
    conversation: ConversationKey
    message_id: UUID
    prompt: str
    answer: Answer
    stopped: bool
    """Whether the user stopped the reply before its end."""
    message_count: int | None
    """How many messages the user had sent before; None when analytics could not say."""
    model: str
    """Which one replied; empty if an earlier version of this program kept the turn."""
    end_time: datetime
    """When the reply was complete, or stopped."""
    seq: int = 0
    """Its place among all turns; 0 for one that was never kept."""
