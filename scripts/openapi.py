"""Prints the HTTP gateway's OpenAPI document."""

import json
import sys
from typing import Any

from fastapi.testclient import TestClient

from chat_service.access.admission import Admission
from chat_service.access.identity import Identity
from chat_service.access.rates import Rates
from chat_service.access.trusted_hosts import TrustedHosts
from chat_service.chat.conversation import Conversation
from chat_service.health.status import Status
from chat_service.settings import ChatSettings
from chat_service.web.gateway import build_gateway


def document() -> dict[str, Any]:
    """What the service answers at `/openapi.json`, with default settings."""
    nobody: Any = None
    limit = ChatSettings.model_fields["max_text_length"].default
    conversation = Conversation(nobody, nobody, nobody, nobody, max_text_length=limit, timeout_s=60)
    admission = Admission()
    status = Status(nobody, nobody, admission, model="")
    gateway = build_gateway(
        conversation, nobody, nobody, status, admission, outbox=nobody,
        cors_origins=[], hosts=TrustedHosts("127.0.0.1", "*"), identity=Identity(), rates=Rates(),
    )  # fmt: skip
    return dict(TestClient(gateway).get("/openapi.json").json())


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=2)
