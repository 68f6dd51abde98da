"""The chat service's HTTP API: decode, call the use case, encode."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import AfterValidator

from chat_service.access.admission import Admission
from chat_service.access.identity import Identity
from chat_service.access.rates import Rates
from chat_service.access.trusted_hosts import TrustedHosts
from chat_service.chat.conversation import COUNT_TIMEOUT_S, READING_S, Conversation
from chat_service.chat.messages import ChatMessage, ConversationKey, Turn
from chat_service.health.status import Status
from chat_service.outbox.analytics import AnalyticsClient
from chat_service.outbox.outbox import Outbox
from chat_service.turns import history
from chat_service.turns.store import TurnStore
from chat_service.web import bodies
from chat_service.web.edge import Edge
from chat_service.web.markdown import with_html
from chat_service.web.openai import api as openai_api
from chat_service.web.pages import EVENTS, add_pages
from chat_service.web.problems import ERROR_RESPONSES, Problem, answer_errors
from chat_service.web.routes import OwnId, OwnPage, private_router, while_connected
from daca_shared.domain import NotFound
from daca_shared.fair_limit import FairLimit

# How long a request for a count waits for the user's latest messages to be counted: as long as
# reconnecting to a restarted analytics may take. After that, it gets the count as it is.
_PATIENCE_S = 1.0
_EXPOSED = ("retry-after", "x-request-id", "x-trace-id")
Count = Annotated[int | None, Query(ge=0)]
# The draft standard of this header puts its value in quotes.
IdempotencyKey = Annotated[str, Header(max_length=255), AfterValidator(lambda key: key.strip('" '))]
Role = Annotated[str, Query(min_length=1, max_length=64)]
# A message, and its reply as it comes.
type _Stream = tuple[ChatMessage, AsyncIterator[bodies.Event]]


def build_gateway(
    conversation: Conversation,
    turns: TurnStore,
    analytics: AnalyticsClient,
    status: Status,
    admission: Admission,
    *,
    outbox: Outbox,
    cors_origins: Sequence[str],
    hosts: TrustedHosts,
    identity: Identity,
    rates: Rates,
    root_path: str = "",
) -> Edge:
    app = FastAPI(
        title="DACA Chat",
        version=version("daca-chat"),
        description="Chat with an agent that knows how many messages you have sent.",
        contact={"name": "DACA Chat"},
        servers=[{"url": "."}],
        responses=ERROR_RESPONSES,
        openapi_url=None,
        separate_input_output_schemas=False,  # so that `Json` is documented as a string
        generate_unique_id_function=lambda route: route.name,
        # `Edge` traces and measures. FastAPI's own spans have paths and queries, and so user ids.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    private = private_router(identity, cors_origins)
    chats = private_router(identity, cors_origins, admission)
    # Rendering a page of messages can take a third of a second, which slows down everything else.
    # Requests wait before they read the texts, which can take a megabyte each.
    rendering = FairLimit(2)
    answer_errors(app)

    @app.get("/healthz")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    app.get("/readyz")(status.ready)
    app.get("/status")(status.report)

    @private.get("/users/{user_id:anything}/analytics")
    async def user_analytics(user_id: OwnId, default: Count = None) -> bodies.AnalyticsBody:
        """`default` is the answer for an unknown user; without it, that is a 404."""
        await outbox.settled(user_id, _PATIENCE_S)
        try:
            count = await analytics.message_count(user_id, timeout_s=COUNT_TIMEOUT_S)
        except NotFound:
            if default is None:
                raise
            count = default
        return bodies.AnalyticsBody(message_count=count)

    @private.get("/users/{user_id:anything}/activity", response_model=bodies.ActivityBody)
    async def activity(user_id: OwnId) -> dict[str, Any]:
        await outbox.settled(user_id, _PATIENCE_S)
        days = await analytics.activity(user_id, timeout_s=COUNT_TIMEOUT_S)
        return {"days": [{"date": day, "message_count": count} for day, count in days.items()]}

    @private.get("/users/{user_id:anything}")
    async def user(user_id: OwnId, role: Role = "guest") -> bodies.UserBody:
        return bodies.UserBody(user_id=user_id, role=role)

    async def decode(body: bodies.ChatBody, idempotency_key: IdempotencyKey = "") -> ChatMessage:
        return body.message(idempotency_key)

    def check(message: ChatMessage, request: Request) -> None:
        """What must be checked before a stream begins, and with it status 200."""
        request.state.caller.must_be(message.user_id)
        conversation.check(message)
        rates.spend(message.user_id, request.client.host if request.client else None)

    @chats.post("/chat/")
    async def chat(
        message: Annotated[ChatMessage, Depends(decode)], request: Request
    ) -> bodies.ReplyBody:
        return await bodies.ReplyBody.of(await reply_to(message, request), message.tags)

    async def reply_to(message: ChatMessage, request: Request) -> Turn:
        with admission:
            check(message, request)
            async with while_connected(request):
                return await conversation.reply(message)

    async def reply_stream(
        message: Annotated[ChatMessage, Depends(decode)], request: Request, rich: bool = False
    ) -> AsyncIterator[_Stream]:
        """A dependency, as FastAPI closes it with the response. It leaves a route's own generator
        to the garbage collector if the client goes away while an event is being sent."""
        events = conversation.stream(message, with_tools=rich)
        with admission:
            check(message, request)
            async with aclosing(with_html(events) if rich else events) as chosen:
                yield message, chosen

    @chats.post("/chat/stream", response_class=EventSourceResponse, responses=EVENTS)
    async def chat_stream(
        stream: Annotated[_Stream, Depends(reply_stream)],
    ) -> AsyncIterator[ServerSentEvent]:
        """Events: `delta` (a piece of text), then one `completed` (the answer of `/chat/`) or one
        `error`. With `rich`, also `tool` (a tool that is being called) and, some times a second,
        `html`: append its `finished` part to the earlier ones, and replace the last `open` part."""
        message, events = stream
        try:
            async for event in events:
                yield await bodies.encoded(event, message.tags)
        except Exception as error:
            yield ServerSentEvent(event="error", data=Problem.of_stream(error).body)

    open_stream = asynccontextmanager(reply_stream)

    async def completion(
        body: openai_api.CompletionBody, request: Request, idempotency_key: IdempotencyKey = ""
    ) -> AsyncIterator[Any]:
        message = body.message(request.state.caller, idempotency_key)
        model = conversation.agent.model
        if body.stream:
            async with open_stream(message, request) as (_, events):
                # Clients retry depending on the status, which is sent with the first piece.
                async with while_connected(request):
                    first = await anext(events)
                yield openai_api.streamed(first, events, message, model)
        else:
            turn = await reply_to(message, request)
            yield openai_api.whole(turn.answer.text, message, model)

    @chats.post("/v1/chat/completions", responses={200: {"content": {"text/event-stream": {}}}})
    async def chat_completions(answer: Annotated[Any, Depends(completion)]) -> Any:
        """The same in the form of OpenAI's API, whole or as a stream."""
        return answer

    @private.get("/v1/models")
    async def models() -> dict[str, Any]:
        model = {"id": conversation.agent.model, "object": "model", "created": 0}
        return {"object": "list", "data": [model | {"owned_by": "daca"}]}

    @private.get("/conversations", response_model=bodies.ConversationsBody)
    async def conversations(query: OwnPage, filter: history.Filter = "") -> dict[str, Any]:
        filtered = history.ConversationsQuery(**query.model_dump(), filter=filter)
        page = await turns.conversations(filtered)
        return {"conversations": page.items, "next_page_token": page.next_page_token}

    @private.get("/conversations/{session_id}")
    async def messages(session_id: UUID, query: OwnPage) -> bodies.MessagesBody:
        of_session = history.MessagesQuery(**query.model_dump(), session_id=session_id)
        async with rendering.slot(query.user_id):
            return await bodies.MessagesBody.of(await turns.messages(of_session))

    @private.patch("/conversations/{session_id}", response_model=history.PastConversation)
    async def rename_conversation(session_id: UUID, user_id: OwnId, to: history.Renaming) -> Any:
        return await turns.rename(ConversationKey(user_id, session_id), to.title)

    @private.delete("/conversations/{session_id}", status_code=204)
    async def delete_conversation(session_id: UUID, user_id: OwnId) -> None:
        await conversation.delete(ConversationKey(user_id, session_id))

    @private.get("/ui/caller.json", include_in_schema=False)
    async def caller(request: Request) -> dict[str, str | None]:
        """The token's user: the page can't see a token that a proxy adds."""
        return {"user_id": request.state.caller.subject}

    # Routes are tried in this order, and most requests are chats.
    app.include_router(chats)
    app.include_router(private)
    add_pages(app, conversation.max_text_length)
    # Outside of everything else, so that pages can read refusals and failures, too.
    cors = partial(CORSMiddleware, allow_origins=cors_origins, allow_methods="*", allow_headers="*",
                   allow_credentials="*" not in cors_origins, expose_headers=_EXPOSED)  # fmt: skip
    limit_s = conversation.timeout_s + READING_S
    return Edge(cors(app), cors, hosts, admission, answer_timeout_s=limit_s, root_path=root_path)
