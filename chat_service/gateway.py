"""The chat service's HTTP face: decode, call the use case, encode."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Protocol
from uuid import UUID

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_service.conversation import (
    ANALYTICS_TIMEOUT_S,
    Analytics,
    ChatMessage,
    ChatReply,
    Conversation,
    Tags,
    Text,
)
from rpc.domain import DomainError, UserId
from rpc.errors import INTERNAL_MESSAGE, http_status

_MAX_BODY_BYTES = 1_000_000
# One megabyte of bad tags must not come back as eighteen megabytes of errors.
_MAX_ERRORS = 10


class CheckedAnalytics(Analytics, Protocol):
    """Analytics that can also be asked whether it serves."""

    async def check(self) -> None:
        """Raises `DomainError`, saying why, unless it does."""
        ...


class RequestMetadata(BaseModel):
    """What a client may say about its message."""

    timestamp: datetime | None = None
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


def build_gateway(
    conversation: Conversation, analytics: CheckedAnalytics, *, cors_origins: Sequence[str]
) -> FastAPI:
    """The HTTP application."""
    app = FastAPI(title="DACA Chat", version="1", max_body_size=_MAX_BODY_BYTES)
    app.add_middleware(CORSMiddleware, allow_origins=cors_origins, allow_methods=["*"],
                       allow_headers=["*"])  # fmt: skip
    app.add_middleware(JsonByDefault)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(DomainError, _answer_domain_error)
    app.add_exception_handler(Exception, _answer_unexpected)

    @app.get("/")
    async def welcome() -> dict[str, str]:
        return {
            "message": "Welcome to the DACA Chat Service! Access /docs for the API documentation."
        }

    @app.get("/healthz")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        """Chats are answered without analytics too, so its absence is only reported."""
        try:
            await analytics.check()
        except DomainError as error:
            return {"status": "ready", "analytics": error.message}
        return {"status": "ready", "analytics": "ok"}

    @app.get("/users/{user_id:anything}/analytics")
    async def user_analytics(user_id: UserId) -> AnalyticsBody:
        count = await analytics.message_count(user_id, timeout_s=ANALYTICS_TIMEOUT_S)
        return AnalyticsBody(message_count=count)

    @app.get("/users/{user_id:anything}")
    async def user(
        user_id: UserId, role: Annotated[str, Query(min_length=1, max_length=64)] = "guest"
    ) -> UserBody:
        return UserBody(user_id=user_id, role=role)

    @app.post("/chat/")
    async def chat(body: ChatBody) -> ReplyBody:
        return ReplyBody.of(await conversation.reply(body.message()))

    return app


class Anything(PathConvertor):
    """A path parameter of any characters, so that an id with slashes or line feeds comes
    as far as the rule that refuses it by name."""

    regex = "(?s:.*)"


register_url_convertor("anything", Anything())


class JsonByDefault:
    """Reads a body of no declared type, or of the one that `curl -d` declares, as JSON.

    Not for requests with an Origin: a foreign page may send such a body without the
    browser's asking first, and must not chat in its visitor's name.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its content type corrected."""
        if scope["type"] == "http" and scope["method"] == "POST":
            headers = MutableHeaders(scope=scope)
            declared = headers.get("content-type", "").partition(";")[0].strip().lower()
            if declared in ("", "application/x-www-form-urlencoded") and "origin" not in headers:
                headers["content-type"] = "application/json"
        await self._app(scope, receive, send)


async def _answer_invalid(request: Request, error: Any) -> JSONResponse:
    # Without the input that FastAPI would send back: it may not even be valid Unicode.
    told = error.errors()[:_MAX_ERRORS]
    detail = [{"loc": e["loc"], "msg": e["msg"], "type": e["type"]} for e in told]
    return JSONResponse({"detail": detail}, 422)


async def _answer_domain_error(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"detail": error.message}, http_status(error))


async def _answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": INTERNAL_MESSAGE}, 500)
