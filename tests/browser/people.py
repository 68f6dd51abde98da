"""What a person finds and does on the page, by accessible names, as screen readers use them."""

import asyncio
import re

from playwright.async_api import Locator, Page, expect

from tests.browser.sites import Site
from tests.tokens import token

# The offline model repeats it word by word, which takes about ten seconds.
LONG = "What was my first message? " + "word " * 500


def message_box(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Message")


def questions(page: Page) -> Locator:
    return page.get_by_role("log").get_by_role("article", name="Your message")


def replies(page: Page) -> Locator:
    return page.get_by_role("log").get_by_role("article", name="Reply")


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def past(page: Page) -> Locator:
    """The buttons that open past conversations."""
    items = page.get_by_role("list", name="Past conversations").get_by_role("listitem")
    return items.get_by_role("button").and_(page.locator(".open"))


def count(page: Page) -> Locator:
    return page.get_by_role("status", name="Messages sent")


def progress(page: Page) -> Locator:
    return page.get_by_role("status", name="Progress")


def texts(*messages: str) -> list[re.Pattern[str]]:
    """To expect elements that contain these texts, among others."""
    return [re.compile(message) for message in messages]


async def send(page: Page, text: str) -> None:
    await message_box(page).fill(text)
    await message_box(page).press("Enter")


async def send_and_wait(page: Page, text: str) -> None:
    await send(page, text)
    await expect(progress(page)).to_have_text("Reply complete.")


async def begin_edit(page: Page, text: str) -> None:
    await button(page, "Edit and resend").click()
    await message_box(page).fill(text)


async def send_edit(page: Page, text: str) -> None:
    await begin_edit(page, text)
    await message_box(page).press("Enter")


async def rename(page: Page, title: str, to: str) -> None:
    await button(page, f"Rename: {title}").click()
    await page.keyboard.type(to)
    await page.keyboard.press("Enter")


async def delete(page: Page, title: str) -> None:
    await button(page, f"Delete: {title}").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()


async def leave(page: Page) -> str:
    """Chat as somebody else. Returns the earlier user's name."""
    name = await page.get_by_label("Chatting as").input_value()
    await chat_as(page, "bob")
    await expect(past(page)).to_have_count(0)
    return name


async def chat_as(page: Page, name: str) -> None:
    who = page.get_by_label("Chatting as")
    await who.fill(name)
    await who.press("Enter")


async def sign_in(page: Page, user: str) -> None:
    dialog = page.get_by_role("dialog", name="Sign in")
    await dialog.get_by_label("Token").fill(token(user))
    await dialog.get_by_label("Token").press("Enter")
    await expect(dialog).to_be_hidden()


async def second_tab(page: Page) -> Page:
    """Another tab of the same browser at the same address."""
    tab = await page.context.new_page()
    await tab.goto(page.url)
    return tab


async def send_and_see(site: Site, page: Page, text: str) -> asyncio.Event:
    """Send it, and see the reply's beginning, "Hello". Its end comes once the event is set."""
    go = asyncio.Event()
    site.agent.script = ["Hello ", go, "and the end."]
    await send(page, text)
    await expect(replies(page).last).to_contain_text("Hello")
    return go


async def stop_midway(page: Page) -> None:
    await send(page, LONG)
    await expect(replies(page).last).to_contain_text("word word")
    await button(page, "Stop").click()
    await expect(replies(page).last).to_contain_text("Stopped.")
