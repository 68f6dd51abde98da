"""OpenAI's Chat Completions API for the same use case, so that its clients can be front ends."""

import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from pydantic import BaseModel, Field, StrictBool
from starlette.responses import StreamingResponse

from chat_service.access.identity import Caller
from chat_service.chat.messages import ChatMessage, Text
from chat_service.web.bodies import Event, uuid_of
from chat_service.web.problems import Problem
from daca_shared.domain import InvalidInput, UserId, validated

# Validation stops at the first error, as each error takes more time and memory than the text.
_PARTS = Field(max_length=100, fail_fast=True)
_MESSAGES = Field(min_length=1, max_length=2000, fail_fast=True)


# A dict: a body has room for 80,000 parts, and models of them take five times as long to make.
class Part(TypedDict):
    type: Annotated[str, Field(max_length=64)]
    text: NotRequired[Text | None]
    refusal: NotRequired[Text | None]
    """Of other parts, such as pictures, only the type is read."""


def _text_of(part: Part) -> str:
    texts = [text for text in (part.get("text"), part.get("refusal")) if text is not None]
    return texts[0] if texts else f"[{part['type']}, not shown]"


class CompletionMessage(BaseModel):
    role: Literal["user", "system", "developer", "assistant", "tool", "function"]
    content: Text | Annotated[list[Part], _PARTS] | None = None

    def said(self) -> tuple[str, str]:
        """The role and the text, in roles that every model knows."""
        parts = self.content or ""
        text = parts if isinstance(parts, str) else "\n".join(map(_text_of, parts))
        match self.role:
            case "developer":  # only OpenAI's own models know this role
                return "system", text
            case "tool" | "function":  # the answer to another model's tool call
                return "user", f"The result of a tool: {text}"
        return self.role, text


class CompletionBody(BaseModel):
    """The body of `POST /v1/chat/completions`. Other fields are ignored."""

    messages: Annotated[list[CompletionMessage], _MESSAGES]
    """The client's conversation. Its last message of the role `user` is answered."""
    stream: StrictBool | None = None
    user: Annotated[UserId | None, Field(examples=["alice"])] = None
    """Who is chatting, if no bearer token says so; `anonymous` by default."""

    def message(self, caller: Caller, idempotency_key: str) -> ChatMessage:
        """The message to answer, in a conversation of its own. Raises `InvalidInput`."""
        last = max((n for n, m in enumerate(self.messages) if m.role == "user"), default=None)
        if last is None:
            raise InvalidInput.field("messages", "must have one of the role user")
        content = self.messages[last].content
        parts = content if isinstance(content, list) else ()
        if unread := [part["type"] for part in parts if part.get("text") is None]:
            problem = f"Only text can be read: remove the {unread[0]} from the message"
            raise InvalidInput.field(f"messages[{last}].content", "must be text", problem)
        said = [message.said() for message in self.messages]
        _, text = said.pop(last)
        history = tuple((role, earlier) for role, earlier in said if earlier)
        fields: dict[str, Any] = {"text": text, "history": history}
        if idempotency_key:
            fields["message_id"] = uuid_of(idempotency_key)
        fields["user_id"] = caller.subject or self.user or "anonymous"
        return validated(ChatMessage, fields)


def whole(text: str, message: ChatMessage, model: str) -> dict[str, Any]:
    said = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    # Not measured, but some clients fail without it.
    usage = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)
    answer = {"object": "chat.completion", "choices": [{"index": 0, **said}], "usage": usage}
    return _about(message, model) | answer


def streamed(
    first: Event, rest: AsyncIterator[Event], message: ChatMessage, model: str
) -> StreamingResponse:
    about = _about(message, model) | {"object": "chat.completion.chunk"}

    async def chunks() -> AsyncIterator[str]:
        event: Event | None = first
        delta = {"role": "assistant"}
        try:
            while event is not None:
                choice: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": "stop"}
                if isinstance(event, str):
                    choice |= {"delta": delta | {"content": event}, "finish_reason": None}
                yield f"data: {json.dumps(about | {'choices': [choice]})}\n\n"
                event, delta = await anext(rest, None), {}
            yield "data: [DONE]\n\n"
        except Exception as error:
            yield f"data: {json.dumps({'error': Problem.of_stream(error).openai_error})}\n\n"

    return StreamingResponse(chunks(), 200, {"x-accel-buffering": "no"}, "text/event-stream")


def _about(message: ChatMessage, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{message.message_id.hex}", "model": model, "created": int(time.time())}
