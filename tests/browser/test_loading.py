"""Conversations that load slowly, twice, or not at all."""

import asyncio

import pytest
from playwright.async_api import Page, Request, Route, expect

from tests.browser.conftest import OpenPage
from tests.browser.people import (
    button,
    past,
    progress,
    questions,
    rename,
    replies,
    second_tab,
    send_and_see,
    send_and_wait,
    send_edit,
    texts,
)
from tests.browser.sites import Site
from tests.browser.troubles import (
    CONVERSATION,
    LIST,
    Handler,
    abort,
    busy,
    find_the_network,
    look_again,
    lose_the_network,
    once,
    read_early,
    see_a_problem,
    slow,
)
from tests.fakes import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def begin_to_load(page: Page, answer: Handler) -> None:
    """Go back to a conversation whose messages are `answer`ed late."""
    await button(page, "New conversation").click()
    await page.route(CONVERSATION, answer, times=1)
    async with page.expect_request(CONVERSATION):
        await page.go_back()


async def test_a_failed_load_is_still_reported_after_a_reply(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(CONVERSATION, busy)
    await page.reload()
    await see_a_problem(page)
    await send_and_wait(page, "pears")
    await see_a_problem(page)
    await page.unroute_all()
    await button(page, "Retry").click()
    await expect(questions(page)).to_have_text(texts("apples", "pears"))


async def test_a_slow_network_shows_a_long_conversation_too(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    site.agent.script = ["word " * 6000]
    await send_and_wait(page, "apples")
    network = await page.context.new_cdp_session(page)
    slow_link = {"offline": False, "latency": 0, "uploadThroughput": -1}
    await network.send("Network.emulateNetworkConditions", slow_link | {"downloadThroughput": 5000})
    await button(page, "New conversation").click()
    await page.go_back()
    await expect(replies(page)).to_contain_text("word", timeout=30_000)
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_a_slow_load_is_not_repeated_and_ends_with_its_view(open_site: OpenPage) -> None:
    page, loads = await open_site(), list[str]()
    await send_and_wait(page, "apples")
    await button(page, "New conversation").click()
    await page.route(CONVERSATION, slow(6))
    page.on("request", lambda request: loads.append(request.url))
    await page.go_back()
    await look_again(page)
    await page.wait_for_timeout(300)
    assert len([url for url in loads if "/conversations/" in url]) == 1
    async with page.expect_event("requestfailed"):
        await button(page, "New conversation").click()
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_a_load_that_hangs_is_repeated_once_online(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await begin_to_load(page, slow(8))
    await find_the_network(page)
    await expect(questions(page)).to_have_text(texts("apples"))


async def test_a_load_that_fails_after_a_later_one_is_no_problem(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    go = asyncio.Event()
    await begin_to_load(page, once(go, abort))
    await send_and_wait(page, "pears")
    await expect(questions(page)).to_have_text(texts("apples", "pears"))
    async with page.expect_event("requestfailed"):
        go.set()
    await page.wait_for_timeout(300)
    await expect(page.get_by_role("alert")).to_be_hidden()
    await expect(questions(page)).to_have_text(texts("apples", "pears"))


async def test_a_load_that_comes_after_a_later_one_takes_nothing_away(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    other = await second_tab(page)
    await expect(questions(other)).to_have_text(texts("apples"))
    go = asyncio.Event()
    await begin_to_load(page, read_early(go))
    await page.wait_for_timeout(300)  # the server has answered
    await send_and_wait(other, "pears")
    await expect(questions(page)).to_have_text(texts("apples", "pears"))
    async with page.expect_event("requestfinished"):
        go.set()
    await page.wait_for_timeout(300)
    await expect(questions(page)).to_have_text(texts("apples", "pears"))


async def test_a_network_that_comes_and_goes_leaves_no_loads_behind(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await button(page, "New conversation").click()
    loads: list[Request] = []
    ended: list[Request] = []
    go = asyncio.Event()
    await page.route(CONVERSATION, once(go, abort))
    page.on("request", lambda one: loads.append(one) if "/conversations/" in one.url else None)
    page.on("requestfailed", lambda one: ended.append(one) if one in loads else None)
    await page.go_back()
    for _ in range(3):
        async with page.expect_request(CONVERSATION):
            await lose_the_network(page)
    # Sooner than their silence would end them.
    await eventually(lambda: len(loads) == 4 and ended == loads[:3], timeout_s=6)
    await page.unroute_all()
    await find_the_network(page)
    await expect(questions(page)).to_have_text(texts("apples"))
    go.set()


async def test_a_load_that_fails_once_online_is_told_beside_another_problem(
    open_site: OpenPage,
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await page.route(LIST, abort)
    await begin_to_load(page, slow(8, abort))
    await page.get_by_label("Search conversations").fill("apples")
    await see_a_problem(page)
    await expect(progress(page)).to_have_text("Loading the conversation…")
    await page.route(CONVERSATION, abort, times=1)
    await lose_the_network(page)
    await expect(page.get_by_text("This conversation could not be loaded.")).to_be_visible()
    await expect(progress(page)).to_have_text("")
    await page.unroute_all(behavior="ignoreErrors")
    await find_the_network(page)
    await expect(questions(page)).to_have_text(texts("apples"))
    await expect(page.get_by_role("alert")).to_be_hidden()


async def test_what_is_not_loaded_yet_is_loaded_during_a_reply_too_once_the_network_is_back(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await begin_to_load(page, once(asyncio.Event(), abort))
    go = await send_and_see(site, page, "pears")
    await find_the_network(page)
    await expect(questions(page)).to_have_text(texts("apples", "pears"))
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")


async def test_a_retry_loads_during_a_reply_too(site: Site, open_site: OpenPage) -> None:
    page, failed = await open_site(), asyncio.Event()
    await send_and_wait(page, "apples")
    await begin_to_load(page, once(failed, abort))
    go = await send_and_see(site, page, "pears")
    failed.set()
    await see_a_problem(page)
    await button(page, "Retry").click()
    await expect(questions(page)).to_have_text(texts("apples", "pears"))
    await expect(progress(page)).to_have_text("The assistant is replying…")
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")


async def test_an_earlier_load_that_is_outdated_during_a_reply_has_been_replaced(
    site: Site, open_site: OpenPage
) -> None:
    page, first, second = await open_site(), asyncio.Event(), asyncio.Event()
    await send_and_wait(page, "apples")
    other = await second_tab(page)
    await expect(questions(other)).to_have_text(texts("apples"))
    await page.route(CONVERSATION, once(second, Route.continue_))
    await begin_to_load(page, once(first, Route.continue_))
    async with page.expect_request(CONVERSATION):
        await send_and_wait(other, "pears")
    go = await send_and_see(site, page, "plums")
    second.set()
    await expect(questions(page)).to_have_text(texts("apples", "pears", "plums"))
    first.set()
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(questions(page)).to_have_text(texts("apples", "pears", "plums"))


@pytest.mark.parametrize("way", ["regenerated", "edited"])
async def test_a_load_does_not_replace_a_reply_that_is_being_streamed(
    site: Site, open_site: OpenPage, way: str
) -> None:
    page, go = await open_site(), asyncio.Event()
    await send_and_wait(page, "apples")
    other = await second_tab(page)
    await expect(questions(other)).to_have_text(texts("apples"))
    site.agent.script = ["Hello ", go, "and the end."]
    await (button(page, "Regenerate").click() if way == "regenerated" else send_edit(page, "pears"))
    await expect(replies(page)).to_contain_text("Hello")
    question = texts("apples" if way == "regenerated" else "pears")
    await rename(other, "apples", "Fruit")  # so the conversation is loaded again
    await expect(past(page).filter(has_text="Fruit")).to_have_count(1)
    await button(page, "New conversation").click()
    async with page.expect_response(CONVERSATION):
        await page.go_back()
    await page.wait_for_timeout(300)  # until it is shown
    await expect(questions(page)).to_have_text(question)
    await expect(replies(page)).to_contain_text("Hello")
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(questions(page)).to_have_text(question)
    await expect(replies(page)).to_contain_text("and the end.")
