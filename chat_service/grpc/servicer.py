"""The chat service's gRPC face: decode, call the use case, encode."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from chat_service.access.identity import ANYONE, Identity
from chat_service.access.overload import Load
from chat_service.access.rates import NO_LIMITS, Rates
from chat_service.chat.conversation import Conversation
from chat_service.chat.ports import ChatMessage, ChatReply
from chat_service.turns.history import History, MessagesQuery, PageQuery
from daca.chat.v1 import chat_pb2 as pb
from daca.chat.v1 import chat_pb2_grpc as pb_grpc
from daca_shared.calls.errors import Context
from daca_shared.domain import validated

type _ChatRequest = pb.ChatRequest | pb.ChatStreamRequest
type _ListRequest = pb.ListConversationsRequest | pb.ListMessagesRequest


class ChatServicer(pb_grpc.ChatServiceServicer):
    """`daca.chat.v1.ChatService` on the use case."""

    def __init__(
        self,
        conversation: Conversation,
        history: History,
        load: Load,
        identity: Identity = ANYONE,
        rates: Rates = NO_LIMITS,
    ) -> None:
        self._conversation = conversation
        self._history = history
        self._load = load
        self._identity = identity
        self._rates = rates

    async def Chat(self, request: pb.ChatRequest, context: Context) -> pb.ChatResponse:
        """Answer one message, within the caller's deadline."""
        async with self._admitted(request, context) as message:
            reply = await self._conversation.reply(message, timeout_s=context.time_remaining())
            return _encode(reply)

    async def ChatStream(
        self, request: pb.ChatStreamRequest, context: Context
    ) -> AsyncIterator[pb.ChatStreamResponse]:
        """Answer one message piece by piece, within the caller's deadline."""
        async with self._admitted(request, context) as message:
            events = self._conversation.stream(message, timeout_s=context.time_remaining())
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, ChatReply):
                        yield pb.ChatStreamResponse(completed=_encode(event))
                    else:
                        yield pb.ChatStreamResponse(reply_delta=event)

    async def ListConversations(
        self, request: pb.ListConversationsRequest, context: Context
    ) -> pb.ListConversationsResponse:
        """A page of the user's conversations."""
        await self._authorize(request, context)
        page = await self._history.conversations(_query(PageQuery, request))
        response = pb.ListConversationsResponse(next_page_token=page.next_page_token)
        for item in page.items:
            conversation = response.conversations.add(
                session_id=str(item.session_id), title=item.title, turn_count=item.turn_count
            )
            conversation.update_time.FromDatetime(item.update_time)
        return response

    async def ListMessages(
        self, request: pb.ListMessagesRequest, context: Context
    ) -> pb.ListMessagesResponse:
        """A page of one conversation."""
        await self._authorize(request, context)
        page = await self._history.messages(_query(MessagesQuery, request))
        response = pb.ListMessagesResponse(next_page_token=page.next_page_token)
        for item in page.items:
            message = response.messages.add(
                message_id=str(item.message_id),
                text=item.text,
                reply=item.reply,
                stopped=item.stopped,
            )
            message.reply_time.FromDatetime(item.time)
        return response

    @asynccontextmanager
    async def _admitted(
        self, request: _ChatRequest, context: Context
    ) -> AsyncIterator[ChatMessage]:
        with self._load.one_more():
            await self._load.start_together()
            await self._authorize(request, context)
            message = _decode(request)
            self._conversation.check(message)
            await self._rates.spend(message.user_id)
            yield message

    async def _authorize(self, request: _ChatRequest | _ListRequest, context: Context) -> None:
        authorization = dict(context.invocation_metadata() or ()).get("authorization")
        caller = await self._identity.caller(str(authorization or ""))
        caller.must_be(request.user_id)


def _query[T: PageQuery](query: type[T], request: _ListRequest) -> T:
    fields = {name: getattr(request, name) for name in request.DESCRIPTOR.fields_by_name}
    return validated(query, fields)


def _decode(request: _ChatRequest) -> ChatMessage:
    fields: dict[str, Any] = {
        "user_id": request.user_id,
        "text": request.text,
        "tags": tuple(request.tags),
    }
    # In proto3 an id that was not given is an empty one.
    if request.session_id:
        fields["session_id"] = request.session_id
    if request.message_id:
        fields["message_id"] = request.message_id
    return validated(ChatMessage, fields)


def _encode(reply: ChatReply) -> pb.ChatResponse:
    response = pb.ChatResponse(
        user_id=reply.message.user_id,
        reply=reply.text,
        session_id=str(reply.message.session_id),
        message_id=str(reply.message.message_id),
        message_count=reply.message_count,
        tags=reply.message.tags,
        model=reply.model,
    )
    response.reply_time.FromDatetime(reply.time)
    return response
