"""The JSON bodies of the HTTP gateway."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any
from uuid import NAMESPACE_URL, UUID, uuid5

from fastapi.sse import ServerSentEvent
from pydantic import BaseModel, BeforeValidator, Field, StrictBool
from pydantic_core import PydanticCustomError

from chat_service.chat.messages import ChatMessage, Tags, Text, ToolCall, Turn
from chat_service.turns.history import Page, PastConversation
from chat_service.web.markdown import Html, rendered
from daca_shared.domain import UserId


def _refuse_number(value: object) -> object:
    # Pydantic would read it as seconds since 1970, which our OpenAPI document doesn't allow.
    if isinstance(value, int | float):
        raise PydanticCustomError("timestamp", "must be a date and time as in RFC 3339")
    return value


def uuid_of(key: str) -> UUID:
    try:
        return UUID(key)
    except ValueError:
        return uuid5(NAMESPACE_URL, f"idempotency-key:{key}")


class RequestMetadata(BaseModel):
    timestamp: Annotated[datetime | None, BeforeValidator(_refuse_number)] = None
    """The client's clock. It is ignored: the service uses its own."""
    session_id: UUID | None = None
    """The conversation to continue; a new one unless given."""


class ChatBody(BaseModel):
    user_id: Annotated[UserId, Field(examples=["alice"])]
    text: Annotated[Text, Field(examples=["How many messages have I sent?"])]
    metadata: RequestMetadata = RequestMetadata()
    tags: Tags = ()
    # Otherwise Swagger UI proposes the same id for every message.
    message_id: Annotated[UUID | None, Field(examples=[None])] = None
    """A message that is sent again with the same id gets the same answer, and counts once."""
    regenerate: StrictBool = False
    """Whether to answer the message with this id once more, with `text` as it is now, replacing its
    reply. It must be the last of its conversation."""

    def message(self, idempotency_key: str) -> ChatMessage:
        """The message. Its id may be an `Idempotency-Key`, even one that is no UUID."""
        message_id = self.message_id or (uuid_of(idempotency_key) if idempotency_key else None)
        ids = {"session_id": self.metadata.session_id, "message_id": message_id}
        fields: dict[str, Any] = {name: value for name, value in ids.items() if value}
        fields |= {"tags": self.tags, "regenerate": self.regenerate}
        return ChatMessage(user_id=self.user_id, text=self.text, **fields)


@dataclass
class ReplyMetadata:
    """When the reply was complete, and the conversation it belongs to."""

    timestamp: datetime
    session_id: UUID


class ReplyBody(BaseModel):
    user_id: str
    reply: str
    """In Markdown."""
    reply_html: str
    """The same as HTML, without anything active in it."""
    tools: list[str]
    """The names of the tools that the agent called for it, in order."""
    metadata: ReplyMetadata
    message_id: UUID
    message_count: int | None
    """How many other messages the user had sent by then; null if that isn't known."""
    tags: tuple[str, ...]
    model: str

    @classmethod
    async def of(cls, turn: Turn, tags: Tags) -> "ReplyBody":
        (html,) = await rendered([turn.answer.text])
        return cls(
            user_id=turn.conversation.user_id,
            reply=turn.answer.text,
            reply_html=html,
            tools=[call.tool for call in turn.answer.tool_calls],
            metadata=ReplyMetadata(turn.end_time, turn.conversation.session_id),
            message_id=turn.message_id,
            message_count=turn.message_count,
            tags=tags,
            model=turn.model,
        )


type Event = str | ToolCall | Html | Turn


async def encoded(event: Event, tags: Tags) -> ServerSentEvent:
    match event:
        case Turn():
            return ServerSentEvent(event="completed", data=await ReplyBody.of(event, tags))
        case ToolCall():
            return ServerSentEvent(event="tool", data={"name": event.tool})
        case Html():
            return ServerSentEvent(event="html", data=event)
    return ServerSentEvent(event="delta", data={"text": event})


class UserBody(BaseModel):
    user_id: str
    role: str


class AnalyticsBody(BaseModel):
    message_count: int


@dataclass
class DayBody:
    date: date
    message_count: int


class ActivityBody(BaseModel):
    """The last days in UTC, today last."""

    days: list[DayBody]


class ConversationsBody(BaseModel):
    """Conversations, those with the latest messages first."""

    conversations: list[PastConversation]
    next_page_token: str


@dataclass
class MessageBody:
    message_id: UUID
    text: str
    reply: str
    reply_html: str
    tools: list[str]
    time: datetime
    stopped: bool


class MessagesBody(BaseModel):
    """Messages, oldest first."""

    messages: list[MessageBody]
    next_page_token: str

    @classmethod
    async def of(cls, page: Page[Turn]) -> "MessagesBody":
        htmls = await rendered([turn.answer.text for turn in page.items])
        items = [
            MessageBody(
                message_id=turn.message_id,
                text=turn.prompt,
                reply=turn.answer.text,
                reply_html=html,
                tools=[call.tool for call in turn.answer.tool_calls],
                time=turn.end_time,
                stopped=turn.stopped,
            )
            for turn, html in zip(page.items, htmls, strict=True)
        ]
        return cls(messages=items, next_page_token=page.next_page_token)
