"""What can go wrong around the page."""

from playwright.async_api import Page, Route, expect

from daca_shared.domain import Unavailable

AWAY = Unavailable("The model can't be reached")
CONVERSATION, LIST, STREAM = "**/conversations/*", "**/conversations?*", "**/chat/stream*"


async def abort(route: Route) -> None:
    await route.abort()


async def busy(route: Route) -> None:
    await route.fulfill(status=503, json={"detail": "Busy"})


async def see_a_problem(page: Page) -> None:
    await expect(page.get_by_role("alert")).to_be_visible()


async def look_again(page: Page) -> None:
    """Return to the window, long enough after it was read last."""
    await page.wait_for_timeout(3100)
    await page.evaluate("dispatchEvent(new Event('focus'))")
