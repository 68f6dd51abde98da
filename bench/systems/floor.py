"""The minimum for `POST /chat/`: an HTTP server, a route, and a run of the Agents SDK with chat's
own client of the model. Nothing is kept, counted, logged, measured or authorised.

`python -m bench.systems.floor PORT`; reads OPENAI_BASE_URL.
"""

import asyncio
import gc
import os
import sys
from copy import copy
from typing import cast
from uuid import UUID

import uvloop
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, RunConfig, Runner
from fastapi import FastAPI
from openai import AsyncOpenAI
from pydantic import BaseModel

from bench.systems.old_design import get_current_time
from chat_service.hosts.completions import CompletionsClient
from chat_service.web.server import HttpServer


class Message(BaseModel):
    """The request body."""

    user_id: str
    text: str
    message_id: UUID


class Reply(BaseModel):
    """The response body."""

    user_id: str
    reply: str


def floor_app(agent: Agent[None]) -> FastAPI:
    """An app with one route, on which the agent replies."""
    app = FastAPI()
    config = RunConfig(tracing_disabled=True)

    @app.post("/chat/")
    async def chat(message: Message) -> Reply:
        # A copy, because the SDK compares each run of an agent with all its other current runs.
        result = await Runner.run(copy(agent), message.text, run_config=config)
        return Reply(user_id=message.user_id, reply=result.final_output)

    return app


async def serve(app: FastAPI, port: int) -> None:
    """Serve the app with the HTTP server of chat's gateway."""
    server = HttpServer(app, "127.0.0.1", port)
    await server.start()
    try:
        await asyncio.wait([server.serving])
    finally:
        await server.stop(1)


async def _run(port: int) -> None:
    client = CompletionsClient(os.environ["OPENAI_BASE_URL"], "none", timeout_s=30)
    agent: Agent[None] = Agent(
        name="Floor",
        instructions="You are a helpful chatbot. The user has sent 5 messages before.",
        tools=[get_current_time],
        model=OpenAIChatCompletionsModel("bench", cast(AsyncOpenAI, client)),
        model_settings=ModelSettings(include_usage=True),
    )
    gc.collect()
    gc.freeze()
    try:
        await serve(floor_app(agent), port)
    finally:
        await client.close()


if __name__ == "__main__":
    uvloop.run(_run(int(sys.argv[1])))
