import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from limits import parse_many

from chat_service.access.admission import Admission
from chat_service.access.rates import Rates
from tests.fakes import FakeChat
from tests.http.gateways import body, gateway, gateway_app, served


@pytest.mark.parametrize("path", ["/chat/", "/chat/stream"])
async def test_a_message_over_the_limit_is_refused_and_not_counted(path: str) -> None:
    chat = FakeChat()
    async with gateway(chat, rates=Rates(parse_many("1/minute"))) as http:
        # A request that is refused for another reason doesn't count.
        assert (await http.post(path, json=body(text=" "))).status_code == 400
        assert (await http.post(path, json=body())).status_code == 200
        refused = await http.post(path, json=body())
        assert refused.status_code == 429
        assert 50 < int(refused.headers["retry-after"]) <= 60
        detail = "Too many messages from this user: at most 1 per 1 minute"
        assert refused.json()["detail"] == detail
        assert len(chat.turns.kept) == 1
        assert (await http.post(path, json=body(user_id="bob"))).status_code == 200
        # Reading isn't limited.
        assert (await http.get("/users/alice/analytics")).status_code == 200


@pytest.mark.parametrize(
    ("trusted", "statuses"), [([], [200, 429, 429]), (["127.0.0.1/32"], [200, 200, 429])]
)
async def test_only_a_trusted_proxy_can_set_the_address(
    trusted: list[str], statuses: list[int]
) -> None:
    app = gateway_app(FakeChat(), rates=Rates(address=parse_many("1/minute")))
    async with served(app, *trusted) as client:
        answers = [
            await client.post("/chat/", json=body(), headers={"x-forwarded-for": address})
            # The caller may have added the first address itself.
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.9, 192.0.2.1")
        ]
    assert [answer.status_code for answer in answers] == statuses


async def test_a_refused_chat_does_not_use_up_the_rate_limit() -> None:
    chat = FakeChat()
    chat.admission = Admission(1)
    chat.agent.delay_s = 0.3

    async def coming() -> AsyncIterator[bytes]:
        await asyncio.sleep(0.1)  # so that all are let in
        yield json.dumps(body()).encode()

    headers = {"content-type": "application/json"}
    async with gateway(chat, rates=Rates(parse_many("3/minute"))) as http:
        answers = await asyncio.gather(
            *(http.post("/chat/", content=coming(), headers=headers) for _ in range(3))
        )
        assert sorted(answer.status_code for answer in answers) == [200, 503, 503]
        assert (await http.post("/chat/", json=body())).status_code == 200
