import re
from base64 import b64encode
from hashlib import sha256
from typing import Any

import pytest

from tests.fakes import FakeChat
from tests.http.gateways import gateway

NOTHING = "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"method": "GET", "url": "/"}, 200),
        ({"method": "GET", "url": "/nowhere"}, 404),
        ({"method": "GET", "url": "/users/nobody/analytics"}, 404),
        ({"method": "POST", "url": "/chat/", "content": b"{"}, 422),
        ({"method": "POST", "url": "/chat/", "content": b"x" * 1_000_001}, 413),
        ({"method": "POST", "url": "/chat/", "json": {"user_id": "alice", "text": "hi"}}, 500),
        ({"method": "OPTIONS", "url": "/chat/", "headers": {"origin": "http://x"}}, 405),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_every_answer_has_security_headers(request_: dict[str, Any], status: int) -> None:
    chat = FakeChat()
    chat.agent.failure = RuntimeError("unexpected")
    async with gateway(chat) as http:
        answer = await http.request(**request_)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["content-security-policy"] == NOTHING
    assert answer.headers["cache-control"] == "no-store"


async def test_the_page_runs_only_its_own_scripts() -> None:
    async with gateway(FakeChat()) as http:
        answer = await http.get("/ui/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_documentation_runs_swagger_ui_and_no_other_script() -> None:
    async with gateway(FakeChat()) as http:
        answer = await http.get("/docs")
    policy = answer.headers["content-security-policy"]
    (scripts,) = re.findall(r"script-src ([^;]*)", policy)
    (inline,) = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    digest = b64encode(sha256(inline.encode()).digest()).decode()
    source, allowed = scripts.split(" ")
    assert (source, allowed) == ("'self'", f"'sha256-{digest}'")
    assert "//" not in "".join(re.findall(r'(?:src|href)="([^"]*)"', answer.text))
    assert "'openapi.json'" in inline
    assert "frame-ancestors 'none'" in policy
