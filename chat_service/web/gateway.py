"""The chat service's HTTP face: decode, call the use case, encode."""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from opentelemetry.trace import Tracer
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.types import ASGIApp

from chat_service.access.admission import Admission
from chat_service.access.hosts import ANY_HOST, Hosts
from chat_service.access.identity import ANYONE, Identity
from chat_service.access.rates import NO_LIMITS, Rates
from chat_service.chat.conversation import COUNT_TIMEOUT_S, READING_S, Conversation
from chat_service.chat.messages import ChatMessage, ChatReply
from chat_service.health.status import Status, StatusBody
from chat_service.outbox.analytics import SettledAnalytics
from chat_service.turns.history import MessagesQuery
from chat_service.turns.store import TurnStore
from chat_service.web import bodies
from chat_service.web.edge import Edge
from chat_service.web.pages import add_pages
from chat_service.web.routes import Door, OwnBody, OwnId, OwnPage, private_router, refused
from daca_shared.calls.errors import INTERNAL_MESSAGE, http_status
from daca_shared.domain import DomainError
from daca_shared.observe.requests import current_request

log = logging.getLogger(__name__)

_MAX_BODY_BYTES = 1_000_000
# One megabyte of bad tags must not come back as eighteen megabytes of errors.
_MAX_ERRORS = 10


def build_gateway(
    conversation: Conversation,
    turns: TurnStore,
    analytics: SettledAnalytics,
    status: Status,
    admission: Admission,
    *,
    cors_origins: Sequence[str],
    hosts: Hosts = ANY_HOST,
    identity: Identity = ANYONE,
    rates: Rates = NO_LIMITS,
    tracer: Tracer | None = None,
) -> ASGIApp:
    app = FastAPI(
        title="DACA Chat",
        version="1",
        responses=bodies.ERROR_RESPONSES,
        docs_url=None,
        redoc_url=None,
    )
    private = private_router(identity)
    chats = private_router(identity)
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
        return await status.ready()

    @app.get("/status")
    async def report() -> StatusBody:
        return await status.report()

    @private.get("/users/{user_id:anything}/analytics")
    async def user_analytics(user_id: OwnId) -> bodies.AnalyticsBody:
        count = await analytics.message_count(user_id, timeout_s=COUNT_TIMEOUT_S)
        return bodies.AnalyticsBody(message_count=count)

    @private.get("/users/{user_id:anything}/activity")
    async def activity(user_id: OwnId) -> bodies.ActivityBody:
        days = await analytics.activity(user_id, timeout_s=COUNT_TIMEOUT_S)
        return bodies.ActivityBody.model_validate(
            {"days": [{"date": day, "message_count": count} for day, count in days.items()]}
        )

    @private.get("/users/{user_id:anything}")
    async def user(
        user_id: OwnId, role: Annotated[str, Query(min_length=1, max_length=64)] = "guest"
    ) -> bodies.UserBody:
        return bodies.UserBody(user_id=user_id, role=role)

    async def admitted(
        body: OwnBody,
        request: Request,
        idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
    ) -> ChatMessage:
        """Checks that have to come before a stream begins, and with it status 200."""
        message = body.message(idempotency_key)
        conversation.check(message)
        rates.spend(message.user_id, request.client.host if request.client else None)
        return message

    @chats.post("/chat/", max_body_size=_MAX_BODY_BYTES)
    async def chat(message: Annotated[ChatMessage, Depends(admitted)]) -> bodies.ReplyBody:
        with admission.one_more():
            return await bodies.ReplyBody.of(await conversation.reply(message))

    async def streamed(
        message: Annotated[ChatMessage, Depends(admitted)],
    ) -> AsyncIterator[AsyncIterator[str | ChatReply]]:
        """A dependency is closed with the response. A route's own generator is left to the garbage
        collector if its reader goes away while an event is being sent."""
        with admission.one_more():
            async with aclosing(conversation.stream(message)) as events:
                yield events

    @chats.post("/chat/stream", response_class=EventSourceResponse, max_body_size=_MAX_BODY_BYTES)
    async def chat_stream(
        events: Annotated[AsyncIterator[str | ChatReply], Depends(streamed)],
    ) -> AsyncIterator[ServerSentEvent]:
        """Events: `delta` (a piece of text), then one `completed` (the answer of `/chat/`)
        or one `error`."""
        try:
            async for event in events:
                if isinstance(event, ChatReply):
                    body = await bodies.ReplyBody.of(event)
                    yield ServerSentEvent(event="completed", data=body)
                else:
                    yield ServerSentEvent(event="delta", data={"text": event})
        except DomainError as error:
            yield _error_event(http_status(error), error.message)
        except Exception:
            log.exception("a stream failed unexpectedly")
            yield _error_event(500, INTERNAL_MESSAGE)

    @private.get("/conversations")
    async def conversations(query: OwnPage) -> bodies.ConversationsBody:
        return bodies.ConversationsBody.of(await turns.conversations(query))

    @private.get("/conversations/{session_id}")
    async def messages(session_id: UUID, query: OwnPage) -> bodies.MessagesBody:
        asked = MessagesQuery(**query.model_dump(), session_id=session_id)
        return await bodies.MessagesBody.of(await turns.messages(asked))

    app.include_router(private)
    app.include_router(chats)
    add_pages(app)
    # Around all the rest, as refusals and failures must be readable, too.
    cors = partial(CORSMiddleware, allow_origins=cors_origins, allow_methods=["*"],
                   allow_headers=["*"], allow_credentials="*" not in cors_origins)  # fmt: skip
    door = cors(Door(app, admission, chats))
    return Edge(
        door, cors, hosts, answer_timeout_s=conversation.timeout_s + READING_S, tracer=tracer
    )


def _error_event(status: int, detail: str) -> ServerSentEvent:
    if request := current_request.get():
        request.error = str(status)
    return ServerSentEvent(event="error", data={"status": status, "detail": detail})


class Anything(PathConvertor):
    """A path parameter of any characters, so that an id with slashes or line feeds reaches the
    rule that refuses it by name."""

    regex = "(?s:.*)"


register_url_convertor("anything", Anything())


async def _answer_invalid(request: Request, error: Any) -> JSONResponse:
    # Without the input that FastAPI would send back: it may not even be valid Unicode.
    told = error.errors()[:_MAX_ERRORS]
    detail = [{"loc": e["loc"], "msg": e["msg"], "type": e["type"]} for e in told]
    return JSONResponse({"detail": detail}, 422)


async def _answer_domain_error(request: Request, error: Any) -> JSONResponse:
    return refused(error)


async def _answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": INTERNAL_MESSAGE}, 500)
