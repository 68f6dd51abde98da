"""Generators can read the OpenAPI document: a client made by one of them can chat."""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

from scripts.openapi import document
from tests.fakes import FakeChat
from tests.http.gateways import body, gateway_app, served
from tests.http.test_idempotency import events

GENERATOR = Path(sys.executable).with_name("openapi-python-client")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a package with the generated client."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_text(json.dumps(document()))
    made = subprocess.run(
        [GENERATOR, "generate", "--path", "openapi.json", "--output-path", "daca_client",
         "--meta", "none", "--fail-on-warning"],
        cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": str(GENERATOR.parent)},
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield "daca_client"
    sys.path.remove(str(folder))
    shutil.rmtree(folder)


async def test_a_generated_client_does_a_chat(generated: str, chat: FakeChat) -> None:
    load = importlib.import_module
    models: Any = load(f"{generated}.models")
    call: Any = load(f"{generated}.api.chat.chat")
    stream: Any = load(f"{generated}.api.chat.chat_stream")
    messages: Any = load(f"{generated}.api.conversations.messages")
    async with served(gateway_app(chat)) as http:
        client = load(f"{generated}.client").Client(base_url=str(http.base_url))
        sent = models.ChatBody(user_id="alice", text="hi")
        reply = await call.asyncio(client=client, body=sent)
        assert (reply.reply, reply.message_count) == ("You said: hi", 5)
        whole = await stream.asyncio(client=client, body=models.ChatBody("bob", "hi"))
        assert whole.endswith("\n\n")
        assert "event: completed" in whole
        listed = await messages.asyncio(reply.metadata.session_id, client=client, user_id="alice")
        assert [message.text for message in listed.messages] == ["hi"]
        refused = await call.asyncio(client=client, body=models.ChatBody("alice", " "))
        assert (refused.code, refused.status) == ("INVALID_FIELD", 400)
        assert isinstance(client.get_httpx_client(), httpx.Client)
        client.get_httpx_client().close()
        await client.get_async_httpx_client().aclose()


async def test_a_generated_client_knows_the_streams_events(
    generated: str, http: httpx2.AsyncClient
) -> None:
    models: Any = importlib.import_module(f"{generated}.models")
    kinds = {"delta": models.DeltaBody, "completed": models.ReplyBody}
    answer = await http.post("/chat/stream", json=body())
    *deltas, whole = [kinds[event].from_dict(data) for event, data in events(answer)]
    assert "".join(delta.text for delta in deltas) == whole.reply == "You said: hi"
    sent = models.DeltaEvent.from_dict({"event": "delta", "data": '{"text": "hi"}'})
    assert models.DeltaBody.from_dict(json.loads(sent.data)).text == "hi"


def test_operations_have_unique_ids_and_texts_have_the_real_limits() -> None:
    found = document()
    operations = [one for item in found["paths"].values() for one in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len({*ids}) == len(operations)
    assert "chat_stream" in ids
    assert all(operation["tags"] and operation["description"] for operation in operations)
    text = found["components"]["schemas"]["ChatBody"]["properties"]["text"]
    assert (text["minLength"], text["maxLength"], bool(text["examples"])) == (1, 8000, True)
    for operation in operations:
        for status in ("4XX", "5XX"):
            schema = operation["responses"][status]["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorBody"}


def test_generators_for_other_languages_understand_it() -> None:
    found = document()
    # A field with a default is required in openapi-typescript's types. Rust's packages have a
    # version of three numbers, and Go's regular expressions no lookaheads.
    body = found["components"]["schemas"]["ChatBody"]
    assert body["required"] == ["user_id", "text"]
    assert not [name for name, field in body["properties"].items() if "default" in field]
    assert found["info"]["version"] == version("daca-chat")
    assert "(?" not in body["properties"]["user_id"]["pattern"]


async def test_the_documented_text_limit_is_the_settings(http: httpx2.AsyncClient) -> None:
    schemas = (await http.get("/openapi.json")).json()["components"]["schemas"]
    assert schemas["ChatBody"]["properties"]["text"]["maxLength"] == 100
