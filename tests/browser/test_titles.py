"""Users give conversations other titles."""

import asyncio
import re

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.people import (
    button,
    chat_as,
    delete,
    leave,
    message_box,
    past,
    rename,
    send_and_wait,
    texts,
)
from tests.browser.troubles import CONVERSATION, Handler, abort, once, see_a_problem, unseen

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_conversation_gets_another_title(fruits: Page) -> None:
    await button(fruits, "Rename: apples").click()
    title = fruits.get_by_role("textbox", name="Title")
    await expect(title).to_be_focused()
    await title.fill("not this")
    await title.press("Escape")
    await expect(button(fruits, "Rename: apples")).to_be_focused()
    await fruits.keyboard.press("Enter")
    await title.fill("Fruit")
    await title.press("Enter")
    await expect(button(fruits, "Rename: Fruit")).to_be_focused()
    await fruits.reload()
    await expect(past(fruits).filter(has_text="Fruit")).to_have_count(1)
    await expect(past(fruits).filter(has_text="apples")).to_have_count(0)


async def test_a_title_that_could_not_be_sent_is_not_lost_and_holds_up_nothing(
    fruits: Page,
) -> None:
    await fruits.route(CONVERSATION, abort)
    await rename(fruits, "apples", "Fruit")
    await see_a_problem(fruits)
    await fruits.unroute_all()
    await send_and_wait(fruits, "plums")
    await expect(past(fruits)).to_have_text(
        [re.compile("pears.*2 messages"), re.compile("apples.*New title not saved")]
    )
    await button(fruits, "Rename: apples").click()
    await expect(fruits.get_by_role("textbox", name="Title")).to_have_value("Fruit")
    await message_box(fruits).focus()  # which stores nothing
    await button(fruits, "Rename: apples").click()
    await fruits.keyboard.press("Escape")
    await expect(past(fruits).last).to_have_text(re.compile("apples.*2 messages"))
    await fruits.route(CONVERSATION, abort)
    await rename(fruits, "apples", "Fruits")
    await see_a_problem(fruits)
    await fruits.unroute_all()
    await button(fruits, "Retry").click()
    await expect(past(fruits).filter(has_text="Fruits")).to_have_count(1)


async def test_a_retry_sends_all_titles_that_could_not_be_sent_as_they_are_by_now(
    fruits: Page,
) -> None:
    await fruits.route(CONVERSATION, abort)
    for old, new in (("apples", "Frist"), ("pears", "Second")):
        await rename(fruits, old, new)
        await expect(past(fruits).filter(has_text=old)).to_contain_text("New title not saved")
    await fruits.unroute_all()
    await button(fruits, "Rename: apples").click()
    await fruits.keyboard.type("First")
    await button(fruits, "Retry").click()
    await expect(past(fruits)).to_have_text(texts("Second", "First"))
    await expect(fruits.get_by_role("alert")).to_be_hidden()


async def test_a_title_goes_with_its_conversation(fruits: Page) -> None:
    await fruits.route(CONVERSATION, abort)
    await rename(fruits, "apples", "Fruit")
    await see_a_problem(fruits)
    await fruits.unroute_all()
    await delete(fruits, "apples")
    await expect(past(fruits)).to_have_count(1)
    await expect(fruits.get_by_role("alert")).to_be_hidden()


async def test_a_title_that_is_stored_is_no_problem_any_more(fruits: Page) -> None:
    async def answer_unseen(route: Route) -> None:
        await (unseen(route) if route.request.method == "PATCH" else route.continue_())

    for new, way in (("Frist", abort), ("First", Route.continue_), ("Third", answer_unseen)):
        await fruits.route(CONVERSATION, way)
        await past(fruits).last.locator("xpath=..").locator(".rename").click()
        await fruits.keyboard.type(new)
        await fruits.keyboard.press("Enter")
        await expect(fruits.locator("#conversations form")).to_have_count(0)
        if new == "Frist":
            await see_a_problem(fruits)
        else:
            await expect(past(fruits).last).to_have_text(re.compile(f"{new}.*2 messages"))
            await expect(fruits.get_by_role("alert")).to_be_hidden()
        await fruits.unroute_all()


async def answer_titles(page: Page, *ways: Handler) -> None:
    """Each new title that is sent goes one of these ways, in order."""
    rest = iter(ways)

    async def handle(route: Route) -> None:
        await (next(rest)(route) if route.request.method == "PATCH" else route.continue_())

    await page.route(CONVERSATION, handle)


@pytest.mark.parametrize("way", [abort, Route.continue_])
async def test_a_title_cannot_be_changed_while_it_is_sent(fruits: Page, way: Handler) -> None:
    """Otherwise the one that comes last would be stored, and not the one that was given last."""
    go = asyncio.Event()
    await answer_titles(fruits, abort, once(go, way), Route.continue_)
    await rename(fruits, "apples", "First")
    await see_a_problem(fruits)
    async with fruits.expect_request(CONVERSATION):
        await button(fruits, "Retry").click()
    await expect(button(fruits, "Rename: apples")).to_be_disabled()
    await expect(button(fruits, "Rename: pears")).to_be_enabled()
    go.set()
    await fruits.locator("#conversations li").last.locator(".rename").click()
    await fruits.keyboard.type("Second")
    await fruits.keyboard.press("Enter")
    await expect(past(fruits).last).to_have_text(re.compile("Second.*2 messages"))
    await expect(fruits.get_by_role("alert")).to_be_hidden()
    await fruits.reload()
    await expect(past(fruits).last).to_have_text(re.compile("Second.*2 messages"))


async def test_a_title_that_fails_after_its_user_has_left_is_not_lost(fruits: Page) -> None:
    failed = asyncio.Event()
    await answer_titles(fruits, once(failed, abort))
    await rename(fruits, "apples", "Fruit")
    name = await leave(fruits)
    async with fruits.expect_event("requestfailed"):
        failed.set()
    await chat_as(fruits, name)
    await expect(past(fruits).last).to_have_text(re.compile("apples.*New title not saved"))
    await button(fruits, "Rename: apples").click()
    await expect(fruits.get_by_role("textbox", name="Title")).to_have_value("Fruit")
