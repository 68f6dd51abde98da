"""The chat service's HTTP face: decode, call the use case, encode."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Protocol
from uuid import UUID

from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_service.bodies import (
    ERROR_RESPONSES,
    ActivityBody,
    AnalyticsBody,
    ChatBody,
    ConversationsBody,
    MessagesBody,
    ReplyBody,
    UserBody,
)
from chat_service.conversation import ANALYTICS_TIMEOUT_S, Conversation
from chat_service.history import History, MessagesQuery, PageQuery
from chat_service.ports import Analytics, ChatMessage, ChatReply
from rpc.domain import DomainError, Unavailable, UserId
from rpc.errors import INTERNAL_MESSAGE, http_headers, http_status

log = logging.getLogger(__name__)

_MAX_BODY_BYTES = 1_000_000
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# One megabyte of bad tags must not come back as eighteen megabytes of errors.
_MAX_ERRORS = 10


class FullAnalytics(Analytics, Protocol):
    """Analytics with what only the gateway asks of it."""

    async def activity(self, user_id: str, *, timeout_s: float) -> dict[str, int]:
        """The user's messages of each of the last days, by date."""
        ...

    async def check(self) -> None:
        """Raises `DomainError`, saying why, unless it does."""
        ...


def build_gateway(
    conversation: Conversation,
    history: History,
    analytics: FullAnalytics,
    *,
    cors_origins: Sequence[str],
    stopping: Callable[[], bool] = lambda: False,
) -> FastAPI:
    """The HTTP application; unready once `stopping` says so."""
    app = FastAPI(title="DACA Chat", version="1", responses=ERROR_RESPONSES)
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
        if stopping():
            raise Unavailable("The service is stopping")
        try:
            await analytics.check()
        except DomainError as error:
            return {"status": "ready", "analytics": error.message}
        return {"status": "ready", "analytics": "ok"}

    @app.get("/users/{user_id:anything}/analytics")
    async def user_analytics(user_id: UserId) -> AnalyticsBody:
        count = await analytics.message_count(user_id, timeout_s=ANALYTICS_TIMEOUT_S)
        return AnalyticsBody(message_count=count)

    @app.get("/users/{user_id:anything}/activity")
    async def activity(user_id: UserId) -> ActivityBody:
        days = await analytics.activity(user_id, timeout_s=ANALYTICS_TIMEOUT_S)
        return ActivityBody.model_validate(
            {"days": [{"date": day, "message_count": count} for day, count in days.items()]}
        )

    @app.get("/users/{user_id:anything}")
    async def user(
        user_id: UserId, role: Annotated[str, Query(min_length=1, max_length=64)] = "guest"
    ) -> UserBody:
        return UserBody(user_id=user_id, role=role)

    @app.post("/chat/", max_body_size=_MAX_BODY_BYTES)
    async def chat(body: ChatBody) -> ReplyBody:
        return ReplyBody.of(await conversation.reply(body.message()))

    def checked(body: ChatBody) -> ChatMessage:
        """What is refused must be so before the stream, and its status 200, begin."""
        message = body.message()
        conversation.check(message)
        return message

    @app.post("/chat/stream", response_class=EventSourceResponse, max_body_size=_MAX_BODY_BYTES)
    async def chat_stream(
        message: Annotated[ChatMessage, Depends(checked)],
    ) -> AsyncIterator[ServerSentEvent]:
        """Events: `delta` (a piece of text), then one `completed` (the answer of `/chat/`)
        or one `error`."""
        try:
            async with aclosing(conversation.stream(message)) as events:
                async for event in events:
                    if isinstance(event, ChatReply):
                        yield ServerSentEvent(event="completed", data=ReplyBody.of(event))
                    else:
                        yield ServerSentEvent(event="delta", data={"text": event})
        except DomainError as error:
            yield _error_event(http_status(error), error.message)
        except Exception:
            log.exception("a stream failed unexpectedly")
            yield _error_event(500, INTERNAL_MESSAGE)

    @app.get("/conversations")
    async def conversations(query: Annotated[PageQuery, Query()]) -> ConversationsBody:
        return ConversationsBody.of(await history.conversations(query))

    @app.get("/conversations/{session_id}")
    async def messages(session_id: UUID, query: Annotated[PageQuery, Query()]) -> MessagesBody:
        asked = MessagesQuery(**query.model_dump(), session_id=session_id)
        return MessagesBody.of(await history.messages(asked))

    app.mount("/ui", Page(directory=Path(__file__).with_name("ui"), html=True))
    return app


class Page(StaticFiles):
    """The chat page, in which only its own scripts and styles run."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, with the headers that keep everything else out."""
        response = await super().get_response(path, scope)
        response.headers["content-security-policy"] = _PAGE_POLICY
        response.headers["x-content-type-options"] = "nosniff"
        response.headers["referrer-policy"] = "no-referrer"
        # Asked anew each time, which costs a 304: a page and a script of two versions clash.
        response.headers["cache-control"] = "no-cache"
        return response


def _error_event(status: int, detail: str) -> ServerSentEvent:
    return ServerSentEvent(event="error", data={"status": status, "detail": detail})


class Anything(PathConvertor):
    """A path parameter of any characters, so that an id with slashes or line feeds comes
    as far as the rule that refuses it by name."""

    regex = "(?s:.*)"


register_url_convertor("anything", Anything())


class JsonByDefault:
    """Reads a body of no declared type, or of the one that `curl -d` declares, as JSON, and
    lets one that is too large be refused in JSON.

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
            # What FastAPI counts it refuses in JSON, what is declared in plain text.
            del headers["content-length"]
        await self._app(scope, receive, send)


async def _answer_invalid(request: Request, error: Any) -> JSONResponse:
    # Without the input that FastAPI would send back: it may not even be valid Unicode.
    told = error.errors()[:_MAX_ERRORS]
    detail = [{"loc": e["loc"], "msg": e["msg"], "type": e["type"]} for e in told]
    return JSONResponse({"detail": detail}, 422)


async def _answer_domain_error(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"detail": error.message}, http_status(error), http_headers(error))


async def _answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": INTERNAL_MESSAGE}, 500)
