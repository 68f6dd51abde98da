"""Input while the page still loads, seldom used keys, and unusual browser settings."""

import asyncio
from typing import Any

import pytest
from playwright.async_api import Browser, Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.people import (
    button,
    message_box,
    progress,
    replies,
    send,
    send_and_see,
    send_and_wait,
)
from tests.browser.sites import Site
from tests.browser.troubles import STREAM, once

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_what_is_typed_before_the_scripts_have_come_stays(open_site: OpenPage) -> None:
    page = await open_site("alice")
    come = asyncio.Event()
    await page.route("**/composer.js", once(come, Route.continue_))
    await page.reload(wait_until="commit")
    await message_box(page).fill("apples")
    await expect(page.get_by_label("Chatting as")).to_be_disabled()
    await expect(button(page, "Send")).to_be_disabled()
    come.set()
    await expect(button(page, "Send")).to_be_enabled()
    await expect(page.get_by_label("Chatting as")).to_have_value("alice")
    await expect(message_box(page)).to_have_value("apples")
    await page.reload()  # it is stored as a draft
    await expect(message_box(page)).to_have_value("apples")
    await send_and_wait(page, "pears")
    assert "apples" not in await page.evaluate("Object.values(localStorage)")


@pytest.mark.parametrize(
    "answer", [{"status": 503}, {"body": "export {};", "content_type": "text/javascript"}]
)
async def test_a_page_with_a_missing_or_foreign_script_says_so(
    browser: Browser, site: Site, answer: dict[str, Any]
) -> None:
    async with await browser.new_context(base_url=site.url) as context:
        page = await context.new_page()
        await page.route("**/platform.js", lambda route: route.fulfill(**answer))
        await page.goto("ui/")
        await expect(page.get_by_role("alert")).to_contain_text("didn't load completely")
        await page.unroute("**/platform.js")
        await button(page, "Retry").click()
        await expect(button(page, "Send")).to_be_enabled()
        await expect(button(page, "Retry")).to_be_hidden()


@pytest.mark.parametrize("answer", [{"status": 401, "body": "<h1>Sign in</h1>"}, {"status": 302}])
async def test_an_ended_sign_in_at_a_proxy_is_not_taken_for_another_problem(
    open_site: OpenPage, answer: dict[str, object]
) -> None:
    page = await open_site()

    async def refuse(route: Route) -> None:
        headers = {"location": "https://login.example.com/", "content-type": "text/html"}
        await route.fulfill(headers=headers, **answer)  # type: ignore[arg-type]

    await page.route(STREAM, refuse)
    await send(page, "apples")
    await expect(page.get_by_role("alert")).to_contain_text("Reload the page to sign in again")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.unroute(STREAM)
    await button(page, "Retry").click()
    await expect(replies(page)).to_have_count(1)


async def test_escape_closes_the_drawer_before_it_stops_a_reply(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site(viewport={"width": 400, "height": 800})
    go = await send_and_see(site, page, "apples")
    drawer = page.get_by_role("navigation", name="Conversations")
    for place in ("a blank part", "the button"):
        await button(page, "Conversations").click()
        if place == "a blank part":
            await drawer.click(position={"x": 100, "y": 600})
        else:
            await button(page, "Conversations").focus()
        await page.keyboard.press("Escape")
        await expect(drawer).to_be_hidden()
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")


async def test_going_back_closes_the_drawer(open_site: OpenPage) -> None:
    page = await open_site(viewport={"width": 400, "height": 800})
    await send_and_wait(page, "apples")
    for _ in range(2):
        await button(page, "Conversations").click()
        await button(page, "New conversation").click()
        await send_and_wait(page, "pears")
    await button(page, "Conversations").click()
    await page.go_back()
    await expect(page.get_by_role("navigation", name="Conversations")).to_be_hidden()
    await message_box(page).click()


async def test_the_focus_stays_on_a_button_that_has_copied(site: Site, open_site: OpenPage) -> None:
    page = await open_site()
    go = asyncio.Event()
    site.agent.script = ["```python\nprint(1)\n```\n\nMore:\n\n", go, "the end."]
    await send(page, "Write")
    copy = button(page, "Copy code")
    await copy.focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".bar button")).not_to_have_text("Copy code")
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(copy).to_be_focused()


async def test_a_copied_selection_has_none_of_the_pages_words(
    site: Site, open_site: OpenPage
) -> None:
    site.agent.script = ["Run:\n\n```python\nprint(1)\n```\n"]
    page = await open_site()
    await page.evaluate(
        "() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }"
    )
    await send_and_wait(page, "Write")
    await button(page, "Copy").first.click()
    await expect(button(page, "Selected: copy it now")).to_be_visible()
    selected = await page.evaluate("getSelection().toString()")
    assert selected.split() == ["Run:", "print(1)"]


async def test_the_browsers_font_size_counts(site: Site, browser: Browser) -> None:
    async with await browser.new_context(base_url=site.url) as context:
        page = await context.new_page()
        await page.goto("ui/")
        session = await context.new_cdp_session(page)
        await session.send("Page.enable")
        await session.send("Page.setFontSizes", {"fontSizes": {"standard": 24}})
        size = "parseFloat(getComputedStyle(document.getElementById('text')).fontSize)"
        assert await page.evaluate(size) == 24


async def test_half_an_emoji_is_sent_as_a_replacement(open_site: OpenPage) -> None:
    page = await open_site()
    await page.evaluate("document.getElementById('text').value = 'apples \\ud83d'")
    await message_box(page).press("Enter")
    await expect(replies(page)).to_have_count(1)
    await expect(page.get_by_role("log")).to_contain_text("apples \ufffd")
