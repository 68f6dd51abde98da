"""Links and redirects work in a browser, also if a proxy adds a prefix to every path."""

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urljoin

import httpx2
import pytest
from starlette.types import ASGIApp

from tests.fakes import FakeChat
from tests.http.gateways import body, gateway, gateway_app

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def stripping(app: ASGIApp) -> ASGIApp:
    """A proxy that strips the prefix."""

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        assert scope["path"].startswith("/daca/")
        path = scope["path"].removeprefix("/daca")
        await app({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    return proxy


@pytest.fixture(params=["nothing", "taken away", "left in place"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[tuple[httpx2.AsyncClient, str]]:
    """A client, and the prefix of all paths."""
    prefix = "" if request.param == "nothing" else "/daca"
    gateway = gateway_app(FakeChat(), root_path="/daca" if request.param == "left in place" else "")
    app = stripping(gateway) if request.param == "taken away" else gateway
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client, f"http://test{prefix}"


async def test_a_browser_at_the_root_gets_the_page(site: tuple[httpx2.AsyncClient, str]) -> None:
    http, base = site
    page = await http.get(f"{base}/", headers=BROWSER, follow_redirects=True)
    assert (page.status_code, str(page.url)) == (200, f"{base}/ui/")
    assert "<html" in page.text
    for accept in ({}, {"accept": "application/json"}, {"accept": "*/*"}):
        answer = await http.get(f"{base}/", headers=accept)
        assert (answer.status_code, "message" in answer.json()) == (200, True)


@pytest.mark.parametrize("prefix", ["/daca", "/apps/daca"])
async def test_a_prefix_that_is_left_in_place_needs_no_slash_behind_it(prefix: str) -> None:
    async with gateway(FakeChat(), root_path=prefix) as http:
        page = await http.get(prefix, headers=BROWSER, follow_redirects=True)
        assert (page.status_code, page.url.path) == (200, f"{prefix}/ui/")
        assert (await http.get(f"{prefix}x")).status_code == 404


@pytest.mark.parametrize("path", ["/ui", "/chat", "/conversations/?user_id=alice"])
async def test_redirects_keep_the_prefix(site: tuple[httpx2.AsyncClient, str], path: str) -> None:
    http, base = site
    answer = await http.get(base + path, follow_redirects=False)
    assert answer.is_redirect
    target = urljoin(str(answer.url), answer.headers["location"])
    first, _, query = path.partition("?")
    other = first.removesuffix("/") if first.endswith("/") else f"{first}/"
    assert target == base + other + (f"?{query}" if query else "")


async def test_the_documentation_and_its_links_work(site: tuple[httpx2.AsyncClient, str]) -> None:
    http, base = site
    page = await http.get(f"{base}/docs")
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    links = [link for link in links if not link.startswith("data:")]
    assert len(links) == 2
    for link in (*links, *re.findall(r"url: '([^']+)'", page.text)):
        found = await http.get(urljoin(f"{base}/docs", link))
        assert found.status_code == 200, link
    document = found.json()
    server = urljoin(str(found.url), document["servers"][0]["url"]).removesuffix("/")
    assert server == base
    answer = await http.post(f"{server}/chat/", json=body())
    assert answer.status_code == 200


async def test_openais_routes_have_openais_errors(site: tuple[httpx2.AsyncClient, str]) -> None:
    http, base = site
    answer = await http.post(f"{base}/v1/chat/completions", json={"messages": []})
    assert answer.json()["error"]["code"] == "INVALID_FIELD"


async def test_a_prefix_in_a_clients_header_is_ignored() -> None:
    async with gateway(FakeChat()) as http:
        headers = {**BROWSER, "x-forwarded-prefix": "//evil.example"}
        answer = await http.get("/", headers=headers)
        assert answer.headers["location"] == "ui/"
        redirect = await http.get("//evil.example/conversations/", headers=headers)
        assert "//evil" not in redirect.headers.get("location", "")
