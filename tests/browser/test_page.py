"""What a person sees and does on the chat page, found by accessible names."""

import re
from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Page, Route, expect

from lab.stack import RunningStack
from tests.browser.people import (
    button,
    count,
    message_box,
    past,
    replies,
    send,
    send_and_wait,
    stop_midway,
)
from tests.browser.troubles import NO_STORAGE

pytestmark = pytest.mark.asyncio(loop_scope="session")

type OpenPage = Callable[..., Awaitable[Page]]


async def test_a_reply_streams_in_and_the_count_follows(page: Page) -> None:
    await expect(count(page)).to_have_text("Messages sent: 0")
    await send(page, "my first: " + "word " * 60)
    await expect(page.get_by_role("article", name="Your message")).to_contain_text("my first")
    await expect(replies(page)).to_have_attribute("aria-busy", "true")
    await expect(replies(page)).to_contain_text("word")
    early = await replies(page).inner_text()
    await expect(replies(page)).to_have_attribute("aria-busy", "false")
    assert 0 < len(early) < len(await replies(page).inner_text())
    await expect(count(page)).to_have_text("Messages sent: 1")
    await expect(past(page)).to_have_count(1)


async def test_the_seeded_count_is_shown_and_used(open_page: OpenPage) -> None:
    page = await open_page("bob")
    await expect(count(page)).to_have_text("Messages sent: 3")
    await send_and_wait(page, "How many?")
    await expect(replies(page)).to_contain_text("You have sent 3 messages")
    await expect(count(page)).to_have_text("Messages sent: 4")


async def test_a_stopped_reply_is_found_again_after_a_reload(page: Page) -> None:
    await stop_midway(page)
    await expect(message_box(page)).to_be_focused()
    await expect(past(page)).to_have_count(1)
    await page.reload()
    await expect(replies(page)).to_contain_text("word word")
    await expect(replies(page)).to_contain_text("Stopped.")
    assert (await replies(page).inner_text()).count("word") < 500


async def test_a_retry_after_a_stop_replies_in_its_place_and_counts_once(page: Page) -> None:
    await stop_midway(page)
    await button(page, "Retry").click()
    await expect(replies(page)).to_contain_text("word word")
    await button(page, "Stop").click()
    await send_and_wait(page, "How many?")
    await expect(replies(page)).to_have_count(2)
    await expect(count(page)).to_have_text("Messages sent: 2")


async def test_an_error_is_shown_and_a_retry_works(page: Page) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=429, json={"detail": "The model's quota is used up"})

    await page.route("**/chat/stream*", refuse)
    await send(page, "How many?")
    await expect(page.get_by_role("alert")).to_have_text("The model's quota is used up")
    await page.unroute("**/chat/stream*")
    await button(page, "Retry").click()
    await expect(replies(page)).to_contain_text("This is your first message")
    await expect(page.get_by_role("alert")).to_be_hidden()
    await expect(page.get_by_role("article", name="Your message")).to_have_count(1)


async def test_conversations_can_be_switched_and_gone_back_to(page: Page) -> None:
    await send_and_wait(page, "apples")
    await button(page, "New conversation").click()
    await expect(replies(page)).to_have_count(0)
    await send_and_wait(page, "pears")
    await expect(past(page)).to_have_count(2)
    await past(page).filter(has_text="apples").click()
    mine = page.get_by_role("article", name="Your message")
    await expect(mine).to_contain_text("apples")
    await expect(past(page).filter(has_text="apples")).to_have_attribute("aria-current", "true")
    await send_and_wait(page, "What was my first message?")
    await expect(replies(page).last).to_contain_text("apples")
    await page.go_back()
    await expect(mine).to_contain_text("pears")


async def test_another_name_starts_afresh(page: Page) -> None:
    await send_and_wait(page, "apples")
    await page.get_by_label("Chatting as").fill("somebody-new")
    await page.get_by_label("Chatting as").press("Enter")
    await expect(replies(page)).to_have_count(0)
    await expect(past(page)).to_have_count(0)
    await expect(count(page)).to_have_text("Messages sent: 0")


async def test_markdown_is_shown_and_its_hostile_parts_do_nothing(page: Page) -> None:
    await send_and_wait(
        page,
        "my first **bold** <script>window.pwned = 1</script>"
        '<img src=x onerror="window.pwned = 1"> [go](javascript:window.pwned=1)'
        " [site](https://example.com)",
    )
    for _ in range(2):
        await expect(replies(page).get_by_role("strong")).to_have_text("bold")
        await expect(replies(page).get_by_role("link")).to_have_text("site")
        await expect(page.get_by_role("log").get_by_role("img")).to_have_count(0)
        assert await page.evaluate("window.pwned") is None
        await page.reload()


async def test_the_service_may_go_away_and_come_back_and_conversations_go_on(
    page: Page, system: RunningStack
) -> None:
    await send_and_wait(page, "apples")
    service = system.stack.services[system.chat]
    await service.stop()
    try:
        await send(page, "pears")
        await expect(page.get_by_role("alert")).to_contain_text("can't be reached")
        await expect(count(page)).to_have_text("Messages sent: unknown")
    finally:
        await service.start()
        await system.wait_until_ready()
    await button(page, "Retry").click()
    await expect(replies(page)).to_have_count(2)
    await expect(replies(page).last).to_contain_text("You have sent 1 message before")
    await expect(page.get_by_role("alert")).to_be_hidden()
    await expect(count(page)).to_have_text("Messages sent: 2")
    await page.reload()
    await send(page, "What did I say first?")
    await expect(replies(page).last).to_contain_text("apples")


async def test_a_name_can_be_typed_and_no_undo_in_the_box_brings_the_earlier_one_back(
    page: Page,
) -> None:
    name = page.get_by_label("Chatting as")
    earlier = await name.input_value()
    await name.click()
    await page.keyboard.press("Control+A")
    await page.keyboard.type(f"{earlier} II")
    await page.keyboard.press("Tab")
    await expect(name).not_to_be_focused()
    await expect(name).to_have_value(f"{earlier} II")
    await message_box(page).click()
    await page.keyboard.type("apples")
    for _ in range(9):
        await page.keyboard.press("Control+Z")
    await expect(name).to_have_value(f"{earlier} II")


async def test_a_chat_needs_only_the_keyboard(page: Page) -> None:
    box = message_box(page)
    await box.press_sequentially("What was my first")
    await box.press("Shift+Enter")
    await page.keyboard.insert_text("message? " + "word " * 200)
    await box.press("Enter")
    await expect(box).to_have_value("")
    await expect(box).to_be_focused()
    await expect(replies(page)).to_contain_text("word word")
    await box.press("Escape")
    await expect(replies(page)).to_contain_text("Stopped.")
    mine = page.get_by_role("article", name="Your message")
    await expect(mine).to_contain_text(re.compile(r"first\s*message"))


async def test_a_reply_can_be_copied(open_page: OpenPage) -> None:
    page = await open_page(permissions=["clipboard-read", "clipboard-write"])
    await send_and_wait(page, "How many?")
    await button(page, "Copy").click()
    await expect(button(page, "Copied")).to_be_visible()
    assert "[offline model]" in await page.evaluate("navigator.clipboard.readText()")


async def test_on_a_phone_the_conversations_are_a_drawer(open_page: OpenPage) -> None:
    page = await open_page(viewport={"width": 360, "height": 640})
    await send_and_wait(page, "apples")
    drawer = page.get_by_role("navigation", name="Conversations")
    await expect(drawer).to_be_hidden()
    await button(page, "Conversations").click()
    await expect(button(page, "New conversation")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(drawer).to_be_hidden()
    await expect(button(page, "Conversations")).to_be_focused()
    await button(page, "Conversations").click()
    await past(page).filter(has_text="apples").click()
    await expect(drawer).to_be_hidden()
    await expect(replies(page)).to_have_count(1)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_the_theme_follows_the_system_until_one_is_chosen(open_page: OpenPage) -> None:
    page = await open_page(color_scheme="dark")
    dark = page.get_by_role("button", name="Dark theme")
    await expect(dark).to_have_attribute("aria-pressed", "true")
    await dark.click()
    await page.reload()
    await expect(dark).to_have_attribute("aria-pressed", "false")


async def test_the_theme_can_be_chosen_without_storage(page: Page) -> None:
    await page.add_init_script(NO_STORAGE)
    await page.reload()
    dark = page.get_by_role("button", name="Dark theme")
    for pressed in ("true", "false"):
        await dark.click()
        await expect(dark).to_have_attribute("aria-pressed", pressed)


async def test_the_page_has_its_landmarks(page: Page) -> None:
    for role in ("banner", "navigation", "main", "log", "form"):
        await expect(page.get_by_role(role)).to_have_count(1)
    await expect(page.get_by_role("heading", name="DACA Chat")).to_be_visible()


async def test_the_chart_shows_todays_messages(page: Page) -> None:
    chart = page.get_by_role("img", name="in the last 14 days")
    await expect(chart).to_be_hidden()
    await send_and_wait(page, "Hello")
    await expect(
        page.get_by_role("img", name="1 message in the last 14 days (of UTC), 1 today")
    ).to_be_visible()
    await expect(chart.locator("rect")).to_have_count(14)
