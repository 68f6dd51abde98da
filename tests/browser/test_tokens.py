"""Whom the page takes for its user, where the service requires tokens."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from chat_service.agent.agent import ChatAgent
from tests.browser.people import (
    button,
    count,
    message_box,
    past,
    progress,
    questions,
    replies,
    send,
    send_and_wait,
    sign_in,
    texts,
)
from tests.browser.sites import Site, running_site
from tests.browser.troubles import LIST, STREAM, abort, look_again, lose_the_network, once
from tests.real_services import offline
from tests.tokens import secret_identity, token

pytestmark = pytest.mark.asyncio(loop_scope="session")

CALLER = "**/ui/caller.json*"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """A site that requires tokens, with the offline model. Bob has sent three messages there."""
    place = tmp_path_factory.mktemp("guarded") / "chat.sqlite"
    async with running_site(place, identity=secret_identity()) as site:
        site.chat.conversation.agent = ChatAgent(offline())
        for text in ("one", "two", "three"):
            await site.chat.say(text, "bob")
        yield site


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser, guarded: Site) -> AsyncIterator[BrowserContext]:
    """The browser profile of a new person at that site."""
    async with await browser.new_context(base_url=guarded.url) as context:
        yield context


async def test_a_token_is_requested_and_identifies_the_user(context: BrowserContext) -> None:
    page = await context.new_page()
    await page.goto("ui/")
    dialog = page.get_by_role("dialog", name="Sign in")
    field = dialog.get_by_label("Token")
    await expect(field).to_be_focused()
    await expect(field).to_have_accessible_description(re.compile("wants a token"))
    for not_good in ("let me in", token("bob", aud="another")):
        await field.fill(not_good)
        await field.press("Enter")
        await expect(dialog).to_be_visible()
    await expect(field).to_have_accessible_description(re.compile("does not accept"))
    await field.fill(token("bob"))
    await field.press("Enter")
    await expect(dialog).to_be_hidden()
    for _ in range(2):
        await expect(page.get_by_label("Chatting as")).to_have_value("bob")
        await expect(page.get_by_label("Chatting as")).not_to_be_editable()
        await expect(count(page)).to_have_text("Messages sent: 3")
        await page.reload()
    await send_and_wait(page, "How many?")
    await expect(replies(page)).to_contain_text("You have sent 3 messages")
    await expect(past(page)).to_have_count(2)
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_what_is_typed_before_the_first_sign_in_stays(context: BrowserContext) -> None:
    page, come = await context.new_page(), asyncio.Event()
    await page.route(LIST, once(come, Route.continue_))
    for path in ("**/users/**", CALLER):
        await page.route(path, abort)
    await page.goto("ui/")
    await expect(button(page, "Send")).to_be_enabled()
    await message_box(page).fill("apples")
    come.set()
    await sign_in(page, "mia")
    await expect(page.get_by_label("Chatting as")).to_have_value("mia")
    await expect(message_box(page)).to_have_value("apples")
    await button(page, "Sign out").click()
    assert await page.evaluate("Object.keys(localStorage)") == []
    await sign_in(page, "nina")
    await expect(message_box(page)).to_have_value("")


async def test_what_is_typed_before_the_scripts_have_come_is_only_the_users_who_signs_in(
    context: BrowserContext,
) -> None:
    page, come = await context.new_page(), asyncio.Event()
    await page.goto("ui/")
    await page.evaluate("localStorage.setItem('draft alice ', 'pears')")
    await page.route("**/composer.js", once(come, Route.continue_))
    await page.goto("ui/", wait_until="commit")
    await message_box(page).fill("apples")
    come.set()
    await sign_in(page, "paula")
    await expect(message_box(page)).to_have_value("apples")
    await send_and_wait(page, "apples")
    await button(page, "Sign out").click()
    assert await page.evaluate("Object.values(localStorage)") == ["pears"]


async def close_the_dialog(page: Page) -> None:
    """Open the page, and close its dialog once no more answers can open it again."""
    await page.goto("ui/", wait_until="networkidle")
    await page.get_by_role("dialog").press("Escape")


async def test_what_was_sent_before_the_first_sign_in_returns_to_the_box(
    context: BrowserContext,
) -> None:
    page = await context.new_page()
    await close_the_dialog(page)
    await send(page, "apples")
    await sign_in(page, "olga")
    await expect(message_box(page)).to_have_value("apples")
    await message_box(page).press("Enter")
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(questions(page)).to_have_text(texts("apples"))
    await button(page, "Sign out").click()
    assert await page.evaluate("Object.keys(localStorage)") == []


@pytest.mark.parametrize("then", ["comes", "stopped"])
async def test_what_is_not_refused_yet_at_the_first_sign_in_returns_to_the_box(
    context: BrowserContext, then: str
) -> None:
    page, go = await context.new_page(), asyncio.Event()
    await close_the_dialog(page)
    await page.route(STREAM, once(go, Route.continue_), times=1)
    async with page.expect_request(STREAM):
        await send(page, "apples")
    if then == "stopped":
        await page.keyboard.press("Escape")
        await expect(progress(page)).to_have_text("Stopped.")
    await lose_the_network(page)  # once it is back, the page asks for the list
    await sign_in(page, "rosa")
    await expect(message_box(page)).to_have_value("apples")
    go.set()
    await send_and_wait(page, "apples")
    await expect(questions(page)).to_have_text(texts("apples"))
    await button(page, "Sign out").click()
    assert await page.evaluate("Object.keys(localStorage)") == []


async def test_a_token_that_a_proxy_adds_identifies_the_user(context: BrowserContext) -> None:
    typed = asyncio.Event()
    await context.route(CALLER, once(typed, Route.continue_))
    page = await context.new_page()
    user = page.get_by_label("Chatting as")
    # Two people at one machine: the page remembers another one.
    for name, sent in (("carol", 0), ("dave", 0), ("carol", 1)):
        await context.set_extra_http_headers({"authorization": f"Bearer {token(name)}"})
        typed.clear()
        await page.goto("ui/")
        await message_box(page).fill("How many?")
        typed.set()
        await expect(user).to_have_value(name)
        await expect(user).not_to_be_editable()
        await expect(count(page)).to_have_text(f"Messages sent: {sent}")
        await expect(past(page)).to_have_count(sent)
        await expect(page.get_by_role("alert")).to_be_hidden()
        await expect(message_box(page)).to_have_value("How many?")
        await message_box(page).press("Enter")
        await expect(replies(page)).to_contain_text(f"sent {sent}")


async def test_a_proxys_token_identifies_the_user_also_if_the_first_answer_is_lost(
    browser: Browser, guarded: Site
) -> None:
    headers = {"authorization": f"Bearer {token('ivan')}"}
    async with await browser.new_context(
        base_url=guarded.url, extra_http_headers=headers
    ) as context:
        await context.route(CALLER, abort, times=1)
        page = await context.new_page()
        await page.goto("ui/")
        await expect(page.get_by_label("Chatting as")).to_have_value("ivan")
        await expect(count(page)).to_have_text("Messages sent: 0")
        await expect(page.get_by_role("alert")).to_be_hidden()


async def test_an_entered_token_wins_over_a_late_answer_about_another(
    context: BrowserContext,
) -> None:
    entered = asyncio.Event()

    async def name_gina(route: Route) -> None:
        await route.fulfill(json={"user_id": "gina"})

    await context.route(CALLER, once(entered, name_gina))
    page = await context.new_page()
    await page.goto("ui/")
    await sign_in(page, "henry")
    async with page.expect_response(CALLER):
        entered.set()
    await expect(page.get_by_label("Chatting as")).to_have_value("henry")
    await send_and_wait(page, "How many?")
    await expect(replies(page)).to_contain_text("Hello henry!")


async def test_after_signing_out_nothing_brings_back_what_was_typed(
    context: BrowserContext,
) -> None:
    page = await context.new_page()
    await page.goto("ui/")
    field = page.get_by_role("dialog", name="Sign in").get_by_label("Token")
    for name in ("judy", "kate"):
        await sign_in(page, name)
        await expect(page.get_by_label("Chatting as")).to_have_value(name)
        await message_box(page).focus()
        for _ in range(3):
            await page.keyboard.press("Control+z")
            await expect(message_box(page)).to_have_value("")
        await page.keyboard.type(f"A secret of {name}")
        await page.keyboard.press("Control+a")
        await page.keyboard.press("Delete")
        await button(page, "Sign out").click()
        await expect(field).to_be_focused()


async def test_a_conversation_is_read_again_after_signing_in_again(context: BrowserContext) -> None:
    page = await context.new_page()
    await page.goto("ui/")
    field = page.get_by_role("dialog", name="Sign in").get_by_label("Token")
    await sign_in(page, "leo")
    await send_and_wait(page, "apples")
    expired = {"authorization": f"Bearer {token('leo', exp=0)}"}
    api = re.compile("/conversations|/users")
    await page.route(api, lambda one: one.continue_(headers={**one.request.headers, **expired}))
    sent = {"user_id": "leo", "text": "pears", "metadata": {"session_id": page.url[-36:]}}
    bearer = {"authorization": f"Bearer {token('leo')}"}
    await page.request.post("chat/", data=sent, headers=bearer)
    await look_again(page)
    await expect(field).to_be_focused()
    await page.unroute_all()
    await sign_in(page, "leo")
    await expect(questions(page)).to_have_count(2)


async def test_a_draft_is_not_shown_to_the_user_of_another_token(context: BrowserContext) -> None:
    page = await context.new_page()
    for name, draft in (("erin", ""), ("frank", ""), ("erin", "Written by erin")):
        await context.set_extra_http_headers({"authorization": f"Bearer {token(name)}"})
        await page.goto("ui/")
        await expect(page.get_by_label("Chatting as")).to_have_value(name)
        await expect(message_box(page)).to_have_value(draft)
        await message_box(page).fill(f"Written by {name}")
