"""A real browser, with the real services without sidecars (which the page doesn't use), or with a
gateway in this process whose agent is scripted by the test."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from lab.machine import tool
from lab.stack import RunningStack, running_stack
from tests.browser.people import message_box, past, questions
from tests.browser.sites import Site, running_site
from tests.dapr.conftest import no_keys

__all__ = ["no_keys"]

_ARGUMENTS = ["--no-sandbox", "--headless=new", "--disable-gpu", "--disable-background-networking"]

log = logging.getLogger(__name__)

type OpenPage = Callable[..., Awaitable[Page]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def system(
    tmp_path_factory: pytest.TempPathFactory, no_keys: None
) -> AsyncIterator[RunningStack]:
    async with running_stack(tmp_path_factory.mktemp("stack"), None) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    path = tool("CHROMIUM")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        await browser.close()


@asynccontextmanager
async def opening(browser: Browser) -> AsyncIterator[OpenPage]:
    """Opens the page at an address in a new browser profile, as a separate person. Fails at its end
    if the page throws, or violates its content security policy."""
    faults: list[str] = []

    def on_console(message: Any) -> None:
        log.warning("the page's console: %s", message.text)
        if "Content Security Policy" in message.text:
            faults.append(message.text)

    async with AsyncExitStack() as contexts:

        async def opened(url: str, user: str | None = None, **options: Any) -> Page:
            context = await browser.new_context(base_url=url, **options)
            contexts.push_async_callback(context.close)
            context.set_default_timeout(10_000)
            contexts.push_async_callback(context.unroute_all, behavior="ignoreErrors")
            context.on("weberror", lambda error: faults.append(str(error.error)))
            context.on("console", on_console)
            context.on("requestfailed", lambda one: log.warning("%s: %s", one.url, one.failure))
            # Matches nothing. While a context's first route is being set up, Chromium and
            # Playwright lose requests.
            await context.route("about:nothing", lambda route: route.abort())
            page = await context.new_page()
            await page.goto("ui/")
            name = page.get_by_label("Chatting as")
            await name.fill(user or f"user-{uuid4().hex[:8]}")
            await name.press("Enter")
            return page

        yield opened
    assert faults == []


@pytest_asyncio.fixture(loop_scope="session")
async def opened(browser: Browser) -> AsyncIterator[OpenPage]:
    async with opening(browser) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scripts(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Page]:
    """A page whose scripts' functions tests call directly, without changing the page."""
    place = tmp_path_factory.mktemp("scripts") / "chat.sqlite"
    async with running_site(place) as site, opening(browser) as opened:
        yield await opened(site.url)


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(system: RunningStack, opened: OpenPage) -> OpenPage:
    """Opens the page of the real services."""

    async def open_page(user: str | None = None, **options: Any) -> Page:
        return await opened(system.url, user, **options)

    return open_page


@pytest_asyncio.fixture(loop_scope="session")
async def page(open_page: OpenPage) -> Page:
    return await open_page()


@pytest_asyncio.fixture(loop_scope="session")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running_site(tmp_path / "chat.sqlite") as site:
        yield site


@pytest_asyncio.fixture(loop_scope="session")
async def open_site(site: Site, opened: OpenPage) -> OpenPage:
    """Opens the page of the gateway in this process."""

    async def open_site(user: str | None = None, **options: Any) -> Page:
        return await opened(site.url, user, **options)

    return open_site


@pytest_asyncio.fixture(loop_scope="session")
async def fruits(site: Site, open_site: OpenPage) -> Page:
    """Two conversations, the first of which mentions plums. The other one is open."""
    user, one, other = f"user-{uuid4().hex[:8]}", uuid4(), uuid4()
    for text, session_id in (("apples", one), ("and plums", one), ("pears", other)):
        await site.chat.say(text, user, session_id)
    page = await open_site(user)
    await expect(past(page)).to_have_count(2)
    await past(page).filter(has_text="pears").click()
    await expect(questions(page)).to_have_count(1)
    await expect(message_box(page)).to_be_focused()
    return page
