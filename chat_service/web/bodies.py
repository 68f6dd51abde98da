"""The JSON bodies of the HTTP gateway."""

from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, computed_field
from pydantic_core import PydanticCustomError

from chat_service.chat.ports import ChatMessage, ChatReply, Tags, Text
from chat_service.turns.history import Page, PastConversation, PastMessage
from chat_service.web.markdown import render
from daca_shared.domain import UserId


def _refuse_number(value: object) -> object:
    # Pydantic would take one for seconds since 1970, of which our document says nothing.
    if isinstance(value, int | float):
        raise PydanticCustomError("timestamp", "must be a date and time as in RFC 3339")
    return value


class RequestMetadata(BaseModel):
    """What a client may say about its message."""

    timestamp: Annotated[datetime | None, BeforeValidator(_refuse_number)] = None
    """The client's clock; the service counts by its own."""
    session_id: UUID | None = None
    """The conversation to go on with."""


class ChatBody(BaseModel):
    """The body of `POST /chat/`."""

    user_id: UserId
    text: Text
    metadata: RequestMetadata = RequestMetadata()
    tags: Tags = ()
    message_id: UUID | None = None
    """A retry with the same id counts once."""

    def message(self) -> ChatMessage:
        """The message that it holds."""
        given = {"session_id": self.metadata.session_id, "message_id": self.message_id}
        ids = {name: value for name, value in given.items() if value}
        return ChatMessage(user_id=self.user_id, text=self.text, tags=self.tags, **ids)


class ReplyMetadata(BaseModel):
    """When the reply was complete, and the conversation it belongs to."""

    timestamp: datetime
    session_id: UUID


class ReplyBody(BaseModel):
    """The answer of `POST /chat/`."""

    user_id: str
    reply: str
    """In Markdown."""
    reply_html: str
    """The same as HTML with nothing active in it."""
    metadata: ReplyMetadata
    message_id: UUID
    message_count: int | None
    """How many messages the user had sent before this one; null when that is not known."""
    tags: tuple[str, ...]
    model: str

    @classmethod
    def of(cls, reply: ChatReply) -> "ReplyBody":
        """The body that tells `reply`."""
        return cls(
            user_id=reply.message.user_id,
            reply=reply.text,
            reply_html=render(reply.text),
            metadata=ReplyMetadata(timestamp=reply.time, session_id=reply.message.session_id),
            message_id=reply.message.message_id,
            message_count=reply.message_count,
            tags=reply.message.tags,
            model=reply.model,
        )


class UserBody(BaseModel):
    """The answer of `GET /users/{user_id}`."""

    user_id: str
    role: str


class AnalyticsBody(BaseModel):
    """The answer of `GET /users/{user_id}/analytics`."""

    message_count: int


class DayBody(BaseModel):
    """One day of `GET /users/{user_id}/activity`."""

    date: date
    message_count: int


class ActivityBody(BaseModel):
    """The answer of `GET /users/{user_id}/activity`: the last days in UTC, today last."""

    days: list[DayBody]


class ConversationBody(BaseModel):
    """One conversation of `GET /conversations`."""

    model_config = ConfigDict(from_attributes=True)

    session_id: UUID
    title: str
    update_time: datetime
    turn_count: int


class ConversationsBody(BaseModel):
    """The answer of `GET /conversations`: the latest first."""

    conversations: list[ConversationBody]
    next_page_token: str

    @classmethod
    def of(cls, page: Page[PastConversation]) -> "ConversationsBody":
        """The body that holds `page`."""
        items = [ConversationBody.model_validate(item) for item in page.items]
        return cls(conversations=items, next_page_token=page.next_page_token)


class MessageBody(BaseModel):
    """One message of `GET /conversations/{session_id}`, and the reply to it."""

    model_config = ConfigDict(from_attributes=True)

    message_id: UUID
    text: str
    reply: str
    time: datetime
    stopped: bool

    @computed_field
    def reply_html(self) -> str:
        """The reply as HTML with nothing active in it."""
        return render(self.reply)


class MessagesBody(BaseModel):
    """The answer of `GET /conversations/{session_id}`: the oldest first."""

    messages: list[MessageBody]
    next_page_token: str

    @classmethod
    def of(cls, page: Page[PastMessage]) -> "MessagesBody":
        """The body that holds `page`."""
        items = [MessageBody.model_validate(item) for item in page.items]
        return cls(messages=items, next_page_token=page.next_page_token)


class ErrorBody(BaseModel):
    """The answer to what is refused, or fails."""

    detail: str | list[dict[str, Any]]
    """What is wrong, in words or by field."""


_ERROR = {"content": {"application/json": {"schema": ErrorBody.model_json_schema()}}}
# Any route may answer so.
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request is refused; `detail` says why", **_ERROR},
    "5XX": {"description": "The request may be fine, but can't be answered now", **_ERROR},
}
