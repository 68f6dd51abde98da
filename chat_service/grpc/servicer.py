"""The chat service's gRPC API: decode, call the use case, encode."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import AliasPath, BaseModel, Field

from chat_service.access.admission import Admission
from chat_service.access.identity import Identity
from chat_service.access.rates import Rates
from chat_service.chat.conversation import Conversation
from chat_service.chat.messages import ChatMessage, ConversationKey, Tags, Title, Turn
from chat_service.turns import history
from chat_service.turns.store import TurnStore
from daca.chat.v1 import chat_pb2 as pb
from daca.chat.v1 import chat_pb2_grpc as pb_grpc
from daca_shared.calls.errors import Context
from daca_shared.domain import InvalidInput, UserId, validated


class _Update(BaseModel):
    user_id: UserId
    title: Title = Field(validation_alias=AliasPath("conversation", "title"))
    session_id: UUID = Field(validation_alias=AliasPath("conversation", "session_id"))


@dataclass(eq=False)
class ChatServicer(pb_grpc.ChatServiceServicer):
    conversation: Conversation
    turns: TurnStore
    admission: Admission
    identity: Identity
    rates: Rates

    async def Chat(self, request: pb.ChatRequest, context: Context) -> pb.ChatResponse:
        async with self._admitted(request, context) as message:
            turn = await self.conversation.reply(message, timeout_s=context.time_remaining())
            return _encode(turn, message.tags)

    async def ChatStream(
        self, request: pb.ChatStreamRequest, context: Context
    ) -> AsyncIterator[pb.ChatStreamResponse]:
        async with self._admitted(request, context) as message:
            events = self.conversation.stream(message, timeout_s=context.time_remaining())
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Turn):
                        yield pb.ChatStreamResponse(completed=_encode(event, message.tags))
                    elif isinstance(event, str):
                        yield pb.ChatStreamResponse(reply_delta=event)

    async def ListConversations(
        self, request: pb.ListConversationsRequest, context: Context
    ) -> pb.ListConversationsResponse:
        query = await self._own(history.ConversationsQuery, request, context)
        page = await self.turns.conversations(query)
        return pb.ListConversationsResponse(
            conversations=map(_listed, page.items), next_page_token=page.next_page_token
        )

    async def UpdateConversation(
        self, request: pb.UpdateConversationRequest, context: Context
    ) -> pb.UpdateConversationResponse:
        await self._authorize(request.user_id, context)
        if not {"title", "*"}.issuperset(request.update_mask.paths):
            raise InvalidInput.field("update_mask", "can name nothing but the title")
        update = validated(_Update, request)
        key = ConversationKey(update.user_id, update.session_id)
        renamed = await self.turns.rename(key, update.title)
        return pb.UpdateConversationResponse(conversation=_listed(renamed))

    async def DeleteConversation(
        self, request: pb.DeleteConversationRequest, context: Context
    ) -> pb.DeleteConversationResponse:
        query = await self._own(history.MessagesQuery, request, context)
        await self.conversation.delete(query.key, timeout_s=context.time_remaining())
        return pb.DeleteConversationResponse()

    async def ListMessages(
        self, request: pb.ListMessagesRequest, context: Context
    ) -> pb.ListMessagesResponse:
        page = await self.turns.messages(await self._own(history.MessagesQuery, request, context))
        response = pb.ListMessagesResponse(next_page_token=page.next_page_token)
        for item in page.items:
            message = response.messages.add(message_id=str(item.message_id), stopped=item.stopped)
            message.text, message.reply = item.prompt, item.answer.text
            message.reply_time.FromDatetime(item.end_time)
        return response

    @asynccontextmanager
    async def _admitted(
        self, request: pb.ChatRequest | pb.ChatStreamRequest, context: Context
    ) -> AsyncIterator[ChatMessage]:
        with self.admission:
            await self._authorize(request.user_id, context)
            # `ListFields` leaves out empty fields: in proto3, these were not given.
            present = {field.name: value for field, value in request.ListFields()}
            required = {"user_id": request.user_id, "text": request.text}
            message = validated(ChatMessage, present | required | {"tags": tuple(request.tags)})
            self.conversation.check(message)
            self.rates.spend(message.user_id)
            yield message

    async def _own[T: history.PageQuery](self, query: type[T], request: Any, context: Context) -> T:
        await self._authorize(request.user_id, context)
        return validated(query, request)

    async def _authorize(self, user_id: str, context: Context) -> None:
        metadata = context.invocation_metadata() or ()
        shown = [str(value) for name, value in metadata if name == "authorization"]
        (await self.identity.caller(*shown)).must_be(user_id)


def _listed(item: history.PastConversation) -> pb.Conversation:
    listed = pb.Conversation(
        session_id=str(item.session_id), title=item.title, turn_count=item.turn_count
    )
    listed.update_time.FromDatetime(item.update_time)
    return listed


def _encode(turn: Turn, tags: Tags) -> pb.ChatResponse:
    response = pb.ChatResponse(
        user_id=turn.conversation.user_id,
        reply=turn.answer.text,
        session_id=str(turn.conversation.session_id),
        message_id=str(turn.message_id),
        message_count=turn.message_count,
        tags=tags,
        model=turn.model,
    )
    response.reply_time.FromDatetime(turn.end_time)
    return response
