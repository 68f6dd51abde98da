"""Which Host headers the gateway accepts: foreign pages may point their own names at it."""

import asyncio
from contextlib import closing
from urllib.parse import urljoin

import pytest

from chat_service.access.trusted_hosts import TrustedHosts
from tests.fakes import FakeChat
from tests.http.gateways import gateway, gateway_app, served

REFUSED = "This host (evil.example) is not served; CHAT_TRUSTED_HOSTS names those that are"


def is_served(hosts: TrustedHosts, *named: str) -> bool:
    return hosts.problem(named, is_probe=False) == ""


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "LocalHost.", "localhost.:8000", "127.0.0.1:8000", "[::1]",
     "[::1]:8000", "[0:0:0:0:0:0:0:1]:8000", "[::ffff:127.0.0.1]:8000", "192.0.2.1:8000"],
)  # fmt: skip
def test_this_machines_names_and_the_gateways_address_are_accepted(host: str) -> None:
    assert is_served(TrustedHosts("192.0.2.1"), host)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "localhost.evil.example", "evil.example:localhost",
     "192.0.2.2", "[2001:db8::1]", "10.0.0.1:80", "127.1", "evil/localhost",
     "localhost@evil.example", "evil.example@localhost", "http://localhost", "localhost localhost",
     "localhost,evil.example", "[::1", "::1]", ":8000", "*", ".", "localhost..", "lo\u017fcalhost"],
)  # fmt: skip
def test_other_hosts_are_refused(host: str) -> None:
    assert not is_served(TrustedHosts("192.0.2.1"), host)


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])  # noqa: S104 - nothing listens
def test_a_gateway_on_all_interfaces_accepts_any_address_but_no_name(
    everywhere: str,
) -> None:
    hosts = TrustedHosts(everywhere)
    assert is_served(hosts, "192.0.2.2:8000")
    assert is_served(hosts, "[2001:db8::1]:8000")
    assert not is_served(hosts, "evil.example")


def test_more_hosts_can_be_configured() -> None:
    hosts = TrustedHosts("127.0.0.1", "chat.example.com", "192.0.2.7:81")
    assert is_served(hosts, "Chat.Example.com.:443")
    assert is_served(hosts, "192.0.2.7")
    assert is_served(hosts, "localhost")
    assert not is_served(hosts, "example.com")
    assert is_served(TrustedHosts("127.0.0.1", "*"), "anything.example")


@pytest.mark.parametrize(
    "path", ["/", "/chat/", "/conversations?user_id=alice", "/ui/", "/nowhere"]
)
async def test_a_foreign_host_reads_nothing(path: str) -> None:
    async with gateway(FakeChat(), hosts=TrustedHosts("127.0.0.1")) as http:
        for host in ("evil.example", ""):
            answer = await http.get(path, headers={"host": host})
            assert answer.status_code == 400
        assert (await http.get("/", headers={"host": "evil.example"})).json()["detail"] == REFUSED
        assert (await http.get("/", headers={"host": "localhost:1"})).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_are_accepted_at_any_address(path: str) -> None:
    async with gateway(FakeChat(), hosts=TrustedHosts("127.0.0.1")) as http:
        assert (await http.get(path, headers={"host": "10.1.2.3:8000"})).status_code == 200


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost:\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", b"400"),
        (b"GET http://localhost/ HTTP/1.1\r\nHost: evil.example\r\n", b"400"),
        (b"GET / HTTP/1.0\r\nHost: localhost\r\n", b"200"),
        (b"GET /readyz HTTP/1.0\r\n", b"200"),
        (b"GET /readyz HTTP/1.0\r\nHost: evil.example\r\nHost: localhost\r\n", b"400"),
        (b"GET / HTTP/1.0\r\nHost: evil.example\r\n", b"400"),
        (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n", b"200"),
    ],
)
async def test_request_lines_and_host_headers_on_the_wire(start: bytes, status: bytes) -> None:
    async with served(gateway_app(FakeChat(), hosts=TrustedHosts("127.0.0.1"))) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        with closing(writer):
            writer.write(start + b"Connection: close\r\n\r\n")
            assert (await reader.read())[9:12] == status


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/chat", "/chat/"),
        ("/ui", "/ui/"),
        ("/conversations/?a=%0d%0a", "/conversations?a=%0d%0a"),
    ],
)
async def test_no_redirect_is_made_of_the_host(path: str, location: str) -> None:
    async with gateway(FakeChat()) as http:
        answer = await http.get(path, headers={"host": "evil.example"})
    assert answer.is_redirect
    # Behind any proxy prefix.
    for prefix in ("http://a.example", "http://a.example/daca"):
        assert urljoin(prefix + path, answer.headers["location"]) == prefix + location
