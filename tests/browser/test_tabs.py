"""Several tabs, URLs of conversations, and signing in and out."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.people import (
    begin_edit,
    button,
    count,
    delete,
    message_box,
    past,
    progress,
    questions,
    rename,
    replies,
    second_tab,
    send,
    send_and_see,
    send_and_wait,
    sign_in,
    texts,
)
from tests.browser.sites import Site, running_site
from tests.browser.troubles import CONVERSATION, abort, see_a_problem
from tests.tokens import secret_identity, token

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def guarded(tmp_path: Path, opened: OpenPage) -> AsyncIterator[Page]:
    """The page of a site that requires tokens, on which Alice has signed in."""
    identity = secret_identity()
    async with running_site(tmp_path / "chat.sqlite", identity=identity) as site:
        page = await opened(site.url, "alice")
        await sign_in(page, "alice")
        yield page


async def test_a_link_in_capital_letters_leads_to_the_same_conversation(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    before, _, session = page.url.partition("#")
    other = await page.context.new_page()
    await other.goto(f"{before}#{session.upper()}")
    await expect(past(other)).to_have_attribute("aria-current", "true")
    await send_and_wait(other, "pears")
    await expect(questions(page)).to_have_text(texts("apples", "pears"))


async def test_a_link_to_a_conversation_is_shown_after_signing_in(guarded: Page) -> None:
    await send_and_wait(guarded, "apples")
    link = guarded.url
    await button(guarded, "Sign out").click()
    await sign_in(guarded, "alice")
    await expect(message_box(guarded)).to_be_focused()
    await guarded.evaluate("localStorage.removeItem('/daca/ui/user')")
    other = await guarded.context.new_page()
    await other.goto(link)
    await sign_in(other, "alice")
    await expect(questions(other)).to_contain_text("apples")
    # Alice has signed in again, so this browser remembers her.
    assert await other.evaluate("localStorage.getItem('/daca/ui/user')") == "alice"


async def test_an_edited_message_that_is_no_longer_the_last_is_sent_as_a_new_one(
    open_site: OpenPage,
) -> None:
    one = await open_site()
    await send_and_wait(one, "apples")
    two = await second_tab(one)
    await expect(questions(two)).to_have_count(1)
    await begin_edit(one, "plums")
    await send_and_wait(two, "pears")
    await expect(questions(one)).to_have_count(2)
    await message_box(one).press("Enter")
    for page in (one, two):
        await expect(questions(page)).to_contain_text(["apples", "pears", "plums"])
    await expect(one.get_by_role("alert")).to_be_hidden()


async def test_a_page_that_was_opened_while_the_service_was_away_is_complete_after_a_retry(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route("**/conversations**", lambda route: route.abort())
    await page.route("**/conversations/**", lambda route: route.abort())
    await page.reload()
    await expect(page.get_by_role("alert")).to_be_visible()
    await page.unroute_all()
    await button(page, "Retry").click()
    await expect(questions(page)).to_contain_text("apples")
    await expect(past(page)).to_have_count(1)
    # Choosing what is open already is no step that Back could undo.
    steps = await page.evaluate("history.length")
    await past(page).click()
    assert await page.evaluate("history.length") == steps


@pytest.mark.parametrize("way", ["reload", "look at the other"])
async def test_a_draft_outlives_a_message_that_another_tab_sends_from_the_same_place(
    open_site: OpenPage, way: str
) -> None:
    one = await open_site()
    two = await second_tab(one)
    await message_box(one).fill("a long draft")
    await send_and_wait(two, "apples")
    await expect(past(one)).to_have_count(1)
    await expect(message_box(one)).to_have_value("a long draft")
    if way == "reload":
        await one.reload()
    else:
        await past(one).click()
        await expect(message_box(one)).to_have_value("")
        await button(one, "New conversation").click()
    await expect(message_box(one)).to_have_value("a long draft")


async def test_tabs_see_each_others_messages(open_site: OpenPage) -> None:
    one = await open_site()
    await send_and_wait(one, "apples")
    two = await second_tab(one)
    await expect(questions(two)).to_have_count(1)
    await message_box(two).fill("a draft")
    await send_and_wait(one, "pears")
    await expect(questions(two)).to_have_count(2)
    await expect(replies(two).last).to_contain_text("Fine.")
    await expect(past(two)).to_contain_text("2 messages")
    await expect(count(two)).to_have_text("Messages sent: 2")
    await expect(message_box(two)).to_have_value("a draft")
    await expect(message_box(two)).to_be_focused()
    await button(one, "Rename: apples").click()
    await one.get_by_role("textbox", name="Title").fill("Fruit")
    await one.keyboard.press("Enter")
    await expect(past(two)).to_contain_text("Fruit")


async def test_a_tab_waits_for_a_reply_that_another_tab_is_getting(
    site: Site, open_site: OpenPage
) -> None:
    one = await open_site()
    go = await send_and_see(site, one, "apples")
    two = await second_tab(one)
    await expect(questions(two)).to_contain_text("apples")
    await expect(replies(two)).to_have_attribute("aria-busy", "true")
    go.set()
    await expect(replies(two)).to_contain_text("Hello and the end.")
    await expect(replies(two)).to_have_count(1)
    go.clear()
    await button(one, "Regenerate").click()
    await expect(button(one, "Stop")).to_be_visible()
    await two.reload()
    await expect(replies(two)).to_contain_text("Hello and the end.")
    await expect(button(two, "Cancel editing")).to_be_hidden()
    go.set()
    await expect(progress(one)).to_have_text("Reply complete.")
    await expect(button(two, "Cancel editing")).to_be_hidden()


async def test_a_reply_that_a_closed_tab_was_getting_is_shown_as_it_was_kept(
    site: Site, open_site: OpenPage
) -> None:
    one = await open_site()
    await send_and_see(site, one, "apples")
    two = await second_tab(one)
    await expect(replies(two)).to_have_attribute("aria-busy", "true")
    await one.close()
    await expect(replies(two)).to_contain_text("Hello")
    await expect(replies(two)).to_contain_text("Stopped.")


async def test_each_tab_keeps_its_own_user(open_site: OpenPage) -> None:
    one = await open_site("ann")
    await send_and_wait(one, "apples")
    two = await one.context.new_page()
    await two.goto("ui/")
    name = two.get_by_label("Chatting as")
    await name.fill("ben")
    await name.press("Enter")
    await one.reload()
    await expect(one.get_by_label("Chatting as")).to_have_value("ann")
    await expect(questions(one)).to_contain_text("apples")
    await two.reload()
    await expect(name).to_have_value("ben")


async def test_changes_from_another_machine_are_shown_on_return(open_site: OpenPage) -> None:
    one = await open_site()
    await send_and_wait(one, "apples")
    two = await open_site(await one.get_by_label("Chatting as").input_value())
    await two.goto(one.url)
    await send_and_wait(two, "pears")
    await expect(questions(one)).to_have_count(1)
    await one.wait_for_timeout(3100)
    await one.evaluate("dispatchEvent(new Event('focus'))")
    await expect(questions(one)).to_have_count(2)


async def test_who_comes_back_from_another_page_sees_the_latest_messages(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.reload()
    await send_and_wait(page, "pears")
    await page.goto("about:blank")
    await page.go_back()
    await expect(questions(page)).to_have_text([re.compile("apples"), re.compile("pears")])


async def test_two_users_see_only_their_own_and_a_url_of_the_others_conversation_says_so(
    open_site: OpenPage,
) -> None:
    one, two = await open_site(), await open_site()
    await send_and_wait(one, "apples")
    await send_and_wait(two, "pears")
    for page, own in ((one, "apples"), (two, "pears")):
        await page.reload()
        await expect(past(page)).to_have_count(1)
        await expect(past(page)).to_contain_text(own)
        await expect(page.get_by_role("log")).to_contain_text(own)
    await two.goto(one.url)
    await expect(two.get_by_text("There is no such conversation of yours")).to_be_visible()
    await expect(two.get_by_role("log")).not_to_contain_text("apples")
    await button(two, "New conversation").click()
    await expect(two.get_by_text("Say something to start")).to_be_visible()


async def test_a_token_that_names_no_user_or_fits_in_no_header_is_refused(guarded: Page) -> None:
    await button(guarded, "Sign out").click()
    field, told = guarded.get_by_label("Token"), "field => field.validationMessage"
    # None at all, one that was shortened, and one of the number 1.
    for given in ("none", token("bob") + "…", "e30.eyJzdWIiOjF9.x"):
        await field.fill(given)
        assert await field.evaluate(told) == ""
        await field.press("Enter")
        assert await field.evaluate(told) == "This is not a token that names a user."
    await sign_in(guarded, "alice")


async def refuse(route: Route) -> None:
    told = json.dumps({"detail": "The bearer token is not valid"})
    await route.fulfill(status=401, body=told, content_type="application/problem+json")


async def test_after_a_deletion_whose_token_has_expired_the_focus_is_not_lost(
    guarded: Page,
) -> None:
    await send_and_wait(guarded, "apples")
    await guarded.route(CONVERSATION, refuse)
    pressed = await button(guarded, "Delete: apples").element_handle()
    await delete(guarded, "apples")
    await see_a_problem(guarded)
    await pressed.wait_for_element_state("hidden")  # the list is refreshed
    await guarded.unroute(CONVERSATION)
    await sign_in(guarded, "alice")
    await expect(message_box(guarded)).to_be_focused()


async def test_an_expired_token_loses_no_text(guarded: Page) -> None:
    await guarded.route("**/chat/stream*", refuse)
    await message_box(guarded).fill("apples")
    await message_box(guarded).press("Enter")
    dialog = guarded.get_by_role("dialog", name="Sign in")
    await expect(dialog).to_be_visible()
    await guarded.unroute("**/chat/stream*")
    await sign_in(guarded, "alice")
    await expect(questions(guarded)).to_contain_text("apples")
    await button(guarded, "Retry").click()
    await expect(replies(guarded)).to_contain_text("Fine.")


async def test_services_below_other_paths_of_the_same_host_share_nothing(guarded: Page) -> None:
    await message_box(guarded).fill("a secret draft")
    here = guarded.url

    async def as_another(route: Route) -> None:
        await route.continue_(url=route.request.url.replace("/other/", "/daca/"))

    await guarded.route("**/other/**", as_another)
    await guarded.goto(here.replace("/daca/", "/other/"))
    await expect(guarded.get_by_role("dialog", name="Sign in")).to_be_visible()
    await expect(message_box(guarded)).to_have_value("")
    await guarded.goto(here)
    await expect(message_box(guarded)).to_have_value("a secret draft")


async def test_signing_out_removes_the_users_data(guarded: Page) -> None:
    assert "/daca/ui/token" in json.loads(await guarded.evaluate("JSON.stringify(sessionStorage)"))
    await send_and_wait(guarded, "apples")
    await message_box(guarded).fill("a secret draft")
    await guarded.route(CONVERSATION, abort)
    await rename(guarded, "apples", "a secret title")
    await see_a_problem(guarded)
    await guarded.unroute_all()
    await button(guarded, "Sign out").click()
    await expect(guarded.get_by_role("dialog", name="Sign in")).to_be_visible()
    await expect(questions(guarded)).to_have_count(0)
    await expect(past(guarded)).to_have_count(0)
    await expect(count(guarded)).to_have_text("")
    await expect(guarded.get_by_label("Chatting as")).to_have_value("")
    for storage in ("localStorage", "sessionStorage"):
        kept = await guarded.evaluate(f"JSON.stringify({storage})")
        assert "secret" not in kept
        assert "alice" not in kept
        assert "/daca/ui/token" not in json.loads(kept)
    await sign_in(guarded, "bob")
    await expect(guarded.get_by_label("Chatting as")).to_have_value("bob")
    await send(guarded, "pears")
    await expect(replies(guarded)).to_have_count(1)
    await button(guarded, "Sign out").click()
    await sign_in(guarded, "alice")
    await expect(past(guarded)).to_have_text(re.compile("apples.*1 message"))


async def test_signing_out_forgets_what_another_tab_shows(guarded: Page) -> None:
    other = await second_tab(guarded)
    await sign_in(other, "alice")
    await message_box(other).fill("a secret draft")
    await button(guarded, "Sign out").click()
    await expect(guarded.get_by_role("dialog", name="Sign in")).to_be_visible()
    await other.wait_for_timeout(200)
    await other.goto("about:blank")
    assert "secret" not in await guarded.evaluate("JSON.stringify(localStorage)")


async def test_signing_out_leaves_the_drafts_of_similar_users(guarded: Page) -> None:
    await button(guarded, "Sign out").click()
    await sign_in(guarded, "alice b")
    await message_box(guarded).fill("a draft")
    other = await second_tab(guarded)
    await sign_in(other, "alice")
    await button(other, "Sign out").click()
    await guarded.reload()
    await expect(message_box(guarded)).to_have_value("a draft")


async def test_a_failed_message_survives_a_reload_and_can_be_resent(
    site: Site, open_site: OpenPage
) -> None:
    async def fail(route: Route) -> None:
        await route.abort()

    page = await open_site()
    await page.route("**/chat/stream*", fail)
    await send(page, "apples")
    await expect(page.get_by_role("alert")).to_contain_text("can't be reached")
    await page.unroute("**/chat/stream*")
    await page.reload()
    await expect(questions(page)).to_contain_text("apples")
    await expect(replies(page)).to_contain_text("Not answered.")
    await button(page, "Send again").click()
    await expect(replies(page)).to_contain_text("Fine.")
    await page.reload()
    await expect(replies(page)).to_contain_text("Fine.")
    await expect(questions(page)).to_have_count(1)
    assert site.agent.asked == ["apples"]
