"""Users delete conversations."""

import asyncio
import re

import pytest
from playwright.async_api import Page, Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.people import (
    button,
    chat_as,
    count,
    delete,
    leave,
    message_box,
    past,
    questions,
    replies,
    second_tab,
    send,
    send_and_see,
    send_and_wait,
    texts,
)
from tests.browser.sites import Site
from tests.browser.troubles import (
    CONVERSATION,
    LIST,
    STREAM,
    abort,
    look_again,
    no_upstream,
    once,
    see_a_problem,
    slow,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_list_tells_that_a_conversation_is_being_deleted(fruits: Page) -> None:
    await fruits.route(CONVERSATION, slow(0.9, abort))
    await fruits.route(LIST, abort)
    for _ in range(2):
        await delete(fruits, "apples")
    await expect(past(fruits).last).to_have_text(re.compile("apples.*Being deleted…"))
    await see_a_problem(fruits)
    await fruits.wait_for_timeout(1000)
    await expect(past(fruits).last).to_have_text(re.compile("apples.*2 messages"))


async def test_a_deleted_conversation_is_gone(fruits: Page) -> None:
    dialog = fruits.get_by_role("dialog", name="Delete “pears”?")
    for choice in ("Cancel", "Delete"):
        await button(fruits, "Delete: pears").click()
        await dialog.get_by_role("button", name=choice).click()
        await expect(dialog).to_be_hidden()
        await expect(past(fruits)).to_have_count(2 if choice == "Cancel" else 1)
    # The deleted conversation was the one that was shown.
    await expect(replies(fruits)).to_have_count(0)
    await expect(message_box(fruits)).to_be_focused()
    await expect(count(fruits)).to_have_text("Messages sent: 3")
    await fruits.reload()
    await expect(past(fruits)).to_have_count(1)
    await expect(past(fruits)).to_contain_text("apples")


async def test_a_failed_deletion_can_be_retried_after_another_was_cancelled(fruits: Page) -> None:
    async def fail(route: Route) -> None:
        await (route.abort() if route.request.method == "DELETE" else route.continue_())

    await fruits.route("**/conversations/**", fail)
    for name, choice in (("apples", "Delete"), ("pears", "Cancel")):
        await button(fruits, f"Delete: {name}").click()
        dialog = fruits.get_by_role("dialog", name=f"Delete “{name}”?")
        await dialog.get_by_role("button", name=choice).click()
        await expect(dialog).to_be_hidden()
    await fruits.unroute_all()
    await button(fruits, "Retry").click()
    await expect(past(fruits)).to_have_count(1)
    await expect(past(fruits)).to_contain_text("pears")


async def test_a_failed_deletion_stays_on_the_page_until_it_is_retried(fruits: Page) -> None:
    async def fail(route: Route) -> None:
        problem = {"detail": "The service's storage is unavailable"}
        is_deletion = route.request.method == "DELETE"
        await (route.fulfill(status=503, json=problem) if is_deletion else route.continue_())

    await fruits.route("**/conversations/**", fail)
    await delete(fruits, "apples")
    await expect(fruits.get_by_role("alert")).to_contain_text("storage is unavailable")
    await fruits.get_by_label("Search conversations").fill("apples")
    await expect(past(fruits)).to_have_count(1)
    await expect(fruits.get_by_role("alert")).to_contain_text("storage is unavailable")
    await fruits.unroute_all()
    await button(fruits, "Retry").click()
    await expect(past(fruits)).to_have_count(0)


async def test_a_failed_deletion_is_no_problem_once_it_is_done(fruits: Page) -> None:
    await fruits.route(CONVERSATION, abort, times=1)
    await delete(fruits, "apples")
    await see_a_problem(fruits)
    await delete(fruits, "apples")
    await expect(past(fruits)).to_have_count(1)
    await expect(fruits.get_by_role("alert")).to_be_hidden()


async def test_what_was_unsent_goes_with_its_conversation_also_after_its_user_has_left(
    fruits: Page,
) -> None:
    await past(fruits).last.click()
    await expect(questions(fruits).last).to_contain_text("plums")
    await fruits.route(STREAM, abort)
    await send(fruits, "kiwis")
    await see_a_problem(fruits)
    await button(fruits, "New conversation").click()
    other = await second_tab(fruits)
    await expect(past(other)).to_have_count(2)
    deleted = asyncio.Event()
    await fruits.route(CONVERSATION, once(deleted, Route.continue_))
    await delete(fruits, "apples")
    name = await leave(fruits)
    async with fruits.expect_response(CONVERSATION):
        deleted.set()
    await expect(past(other)).to_have_count(1)
    await chat_as(fruits, name)
    await expect(past(fruits)).to_have_text(texts("pears"))
    assert "kiwis" not in await fruits.evaluate("JSON.stringify(localStorage)")


async def test_a_failed_deletion_during_a_reply_leaves_what_was_stopped(
    site: Site, fruits: Page
) -> None:
    await send_and_see(site, fruits, "plums")
    await look_again(fruits)
    await expect(past(fruits).first).to_contain_text("Being answered…")
    await fruits.route(CONVERSATION, slow(1, abort), times=1)
    await delete(fruits, "pears")
    await see_a_problem(fruits)
    await expect(past(fruits).first).to_have_text(re.compile("pears.*2 messages"))
    await expect(replies(fruits).last).to_contain_text("Stopped.")


async def test_what_is_written_during_a_deletion_stays_in_the_box(fruits: Page) -> None:
    go = asyncio.Event()

    async def hold(route: Route) -> None:
        if route.request.method == "DELETE":
            await go.wait()
        await route.continue_()

    await fruits.route("**/conversations/**", hold)
    await delete(fruits, "apples")
    await message_box(fruits).press_sequentially("more ")
    go.set()
    await expect(past(fruits)).to_have_count(1)
    await fruits.keyboard.type("pears")
    await expect(message_box(fruits)).to_have_value("more pears")


async def test_a_proxy_that_finds_no_service_deletes_nothing(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(CONVERSATION, no_upstream)
    await message_box(page).fill("my draft")
    await button(page, "Delete: apples").click()
    await button(page, "Delete").click()
    await see_a_problem(page)
    await expect(message_box(page)).to_have_value("my draft")
    await expect(past(page)).to_have_count(1)


async def test_a_conversation_can_be_deleted_during_a_reply(open_page: OpenPage) -> None:
    page: Page = await open_page()
    box = page.get_by_role("textbox", name="Message", exact=True)
    await box.fill("word " * 1500)
    await box.press("Enter")
    await expect(page.locator("#conversations .delete")).to_have_count(1)
    await box.fill("What was my first message?")  # the reply takes some 30 s
    await box.press("Enter")
    await expect(page.locator("#stop")).to_be_visible()
    await page.click("#conversations .delete")
    await page.click("#ask-delete button[value=delete]")
    await expect(page.locator("#conversations .delete")).to_have_count(0, timeout=3000)
    await expect(page.locator(".turn")).to_have_count(0)
    await expect(page.locator("#problem")).to_be_hidden()
