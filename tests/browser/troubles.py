"""What can go wrong around the page."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpx2
from playwright.async_api import Error, Page, Route, expect

from daca_shared.domain import Unavailable

type Handler = Callable[[Route], Awaitable[None]]

AWAY = Unavailable("The model can't be reached")
CONVERSATION, LIST, STREAM = "**/conversations/*", "**/conversations?*", "**/chat/stream*"

# As in Firefox where cookies are blocked.
NO_STORAGE = """
Object.defineProperty(window, "localStorage", {
  get() { throw new DOMException("", "SecurityError"); }
});
window.BroadcastChannel = class { constructor() { throw new DOMException("", "SecurityError"); } };
"""

# Nothing fits in any more, not even one character.
FILL_STORAGE = """() => {
  for (let n = 2 ** 23, i = 0; n >= 1; i++) {
    try { localStorage.setItem(`filler ${i}`, "x".repeat(n)); } catch { n /= 2; }
  }
}"""


async def abort(route: Route) -> None:
    await route.abort()


async def busy(route: Route) -> None:
    problem = json.dumps({"detail": "Busy"})
    await route.fulfill(status=503, body=problem, content_type="application/problem+json")


async def hang(route: Route) -> None:
    await asyncio.sleep(3)
    with suppress(Error):  # the page has left the request by now
        await route.abort()


async def unseen(route: Route) -> None:
    """The server answers, but its answer is lost on the way."""
    await route.fetch()
    await route.abort()


async def cut_at_once(route: Route) -> None:
    """The connection breaks at the browser's end only: the server goes on with its answer."""
    fetching = asyncio.create_task(route.fetch())
    await asyncio.sleep(0.2)
    await route.abort()
    await fetching


async def no_upstream(route: Route) -> None:
    """A proxy that doesn't find the service."""
    await route.fulfill(status=404, body="no upstream")


def slow(seconds: float, then: Handler = Route.continue_) -> Handler:
    async def handle(route: Route) -> None:
        await asyncio.sleep(seconds)
        with suppress(Error):  # the page may have left the request by now
            await then(route)

    return handle


def once(go: asyncio.Event, then: Handler) -> Handler:
    async def handle(route: Route) -> None:
        await go.wait()
        with suppress(Error):  # as above
            await then(route)

    return handle


def read_early(go: asyncio.Event) -> Handler:
    """The server answers at once, but its answer comes only once the event is set."""

    async def handle(route: Route) -> None:
        with suppress(Error):  # as above
            answer = await route.fetch()
            await go.wait()
            await route.fulfill(response=answer)

    return handle


async def chat_elsewhere(page: Page, text: str) -> None:
    """Another machine of the same user sends a message to the conversation that is open."""
    address, _, session = page.url.partition("ui/#")
    user = await page.get_by_label("Chatting as").input_value()
    sent = {"user_id": user, "text": text, "metadata": {"session_id": session}}
    async with httpx2.AsyncClient() as http:
        assert (await http.post(f"{address}chat/", json=sent)).status_code == 200


async def delete_elsewhere(page: Page) -> None:
    """Another machine of the same user deletes the conversation that is open."""
    at = page.url.replace("/ui/#", "/conversations/")
    user = await page.get_by_label("Chatting as").input_value()
    async with httpx2.AsyncClient() as http:
        assert (await http.delete(at, params={"user_id": user})).status_code == 204


async def see_a_problem(page: Page) -> None:
    await expect(page.get_by_role("alert")).to_be_visible()


async def lose_the_network(page: Page) -> None:
    """Go offline for a moment. Once online, the page reads the conversation again."""
    await page.context.set_offline(True)
    await page.context.set_offline(False)


async def find_the_network(page: Page) -> None:
    """The same, then report it again: Chromium may report it before requests get through."""
    await lose_the_network(page)
    await page.evaluate("dispatchEvent(new Event('online'))")


async def look_again(page: Page) -> None:
    """Return to the window, so long after the last reading that the page reads again."""
    await page.wait_for_timeout(3100)
    await page.evaluate("dispatchEvent(new Event('focus'))")
