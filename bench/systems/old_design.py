"""The design that this one replaced, as in its tutorial: analytics over REST, called through
Dapr's HTTP API with a new client for each request, and one agent that all requests share and
whose instructions each of them changes.

`python -m bench.systems.old_design analytics|chat PORT`; chat reads DAPR_HTTP_PORT,
ANALYTICS_APP_ID and OPENAI_BASE_URL.
"""

import os
import sys
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import uvicorn
from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    RunConfig,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from fastapi import FastAPI, HTTPException
from openai import AsyncOpenAI
from pydantic import BaseModel, Field

COUNTS = {"alice": 5, "bob": 3}


class Metadata(BaseModel):
    """When a message was sent, and to which conversation."""

    timestamp: datetime = Field(default_factory=lambda: datetime.now(UTC))
    session_id: str = Field(default_factory=lambda: str(uuid4()))


class Message(BaseModel):
    """The request body."""

    user_id: str
    text: str
    metadata: Metadata | None = None
    tags: list[str] | None = None


class Response(BaseModel):
    """The response body."""

    user_id: str
    reply: str
    metadata: Metadata


def analytics_app(counts: dict[str, int]) -> FastAPI:
    """The analytics service: a dictionary with a REST API."""
    app = FastAPI(title="Analytics Service")

    @app.get("/analytics/{user_id}")
    async def get_analytics(user_id: str) -> dict[str, int]:
        if user_id not in counts:
            raise HTTPException(404, "User not found")
        return {"message_count": counts[user_id]}

    return app


@function_tool
def get_current_time() -> str:
    """Returns the current time in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


make_client = httpx.AsyncClient
"""Called for each request."""


async def ask_count(analytics_url: str, user_id: str) -> int:
    """How many messages a user has sent; 0 if analytics doesn't answer."""
    async with make_client() as client:
        try:
            answer = await client.get(f"{analytics_url}/analytics/{user_id}")
            answer.raise_for_status()
        except httpx.HTTPError:
            return 0
        return int(answer.json().get("message_count", 0))


def chat_app(agent: Agent[None], config: RunConfig, analytics_url: str) -> FastAPI:
    app = FastAPI(title="DACA Chat Service")

    @app.post("/chat/")
    async def chat(message: Message) -> Response:
        if not message.text.strip():
            raise HTTPException(400, "Message text cannot be empty")
        count = await ask_count(analytics_url, message.user_id)
        agent.instructions = (
            "You are a helpful chatbot. Respond to user messages in a friendly way. "
            f"The user has sent {count} messages before."
        )
        result = await Runner.run(agent, input=message.text, run_config=config)
        return Response(user_id=message.user_id, reply=result.final_output, metadata=Metadata())

    return app


def main() -> None:
    """Serve one of the two services as `uvicorn main:app` does."""
    which, port = sys.argv[1], int(sys.argv[2])
    if which == "analytics":
        users = {f"user-{n:08d}": n for n in range(1000)}
        app = analytics_app(COUNTS | users)
    else:
        set_tracing_disabled(True)
        client = AsyncOpenAI(api_key="none", base_url=os.environ["OPENAI_BASE_URL"])
        model = OpenAIChatCompletionsModel("bench", client)
        dapr_port, app_id = os.environ["DAPR_HTTP_PORT"], os.environ["ANALYTICS_APP_ID"]
        agent: Agent[None] = Agent(name="ChatAgent", model=model, tools=[get_current_time])
        url = f"http://localhost:{dapr_port}/v1.0/invoke/{app_id}/method"
        app = chat_app(agent, RunConfig(model=model, tracing_disabled=True), url)
    uvicorn.run(app, host="127.0.0.1", port=port)


if __name__ == "__main__":
    main()
