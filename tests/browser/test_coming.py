"""A reply that hasn't begun or is being streamed."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from chat_service.chat.messages import ToolCall
from daca_shared.domain import Unavailable
from tests.browser.conftest import OpenPage
from tests.browser.people import (
    button,
    past,
    progress,
    questions,
    replies,
    second_tab,
    send,
    send_and_see,
    send_and_wait,
)
from tests.browser.sites import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_waiting_for_the_first_text_is_visible(site: Site, open_site: OpenPage) -> None:
    go, end = asyncio.Event(), asyncio.Event()
    site.agent.script = [go, "Done", end]
    page = await open_site()
    await send(page, "When?")
    height = "said => said.clientHeight"
    waiting = "said => getComputedStyle(said, '::before').content"
    said = replies(page).locator(".said")
    await expect(said).to_have_class(re.compile("coming"))
    assert await said.evaluate(waiting) == '"Thinking…"'
    go.set()
    await expect(said.locator("p")).to_have_text("Done")
    height_with_bar = await said.evaluate(height)
    end.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    assert await said.evaluate(waiting) == "none"
    assert await said.evaluate(height) == height_with_bar  # nothing moves when the bar goes


async def test_choosing_the_conversation_that_is_open_does_not_stop_its_reply(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site(viewport={"width": 390, "height": 800})
    await send_and_wait(page, "apples")
    go = await send_and_see(site, page, "pears")
    await button(page, "Conversations").click()
    await past(page).click()
    await expect(button(page, "Conversations")).to_have_attribute("aria-expanded", "false")
    await expect(button(page, "Stop")).to_be_visible()
    go.set()
    await expect(replies(page).last).to_contain_text("Hello and the end.")
    await expect(progress(page)).to_have_text("Reply complete.")


async def test_a_reply_goes_on_while_another_conversation_is_shown(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    await send_and_wait(page, "plums")
    go = await send_and_see(site, page, "apples")
    await button(page, "New conversation").click()
    await expect(replies(page)).to_have_count(0)
    await expect(progress(page)).to_have_text("")
    site.agent.script = ["Fine."]
    await send_and_wait(page, "pears")
    await page.go_back()
    await expect(replies(page)).to_have_count(2)
    await expect(replies(page).last).to_contain_text("Hello")
    await expect(button(page, "Stop")).to_be_visible()
    await page.go_forward()
    await expect(button(page, "Send")).to_be_visible()
    go.set()
    await expect(past(page).first).to_contain_text("2 messages")
    await expect(replies(page)).to_have_count(1)
    await page.go_back()
    await expect(replies(page).last).to_contain_text("Hello and the end.")
    await expect(button(page, "Regenerate")).to_be_visible()


async def test_a_first_message_is_in_the_list_while_it_is_answered(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    go = await send_and_see(site, page, "apples")
    await button(page, "New conversation").click()
    await expect(past(page)).to_have_text("applesBeing answered…")
    await past(page).click()
    await expect(button(page, "Stop")).to_be_visible()
    go.set()
    await expect(replies(page)).to_contain_text("Hello and the end.")
    await expect(past(page)).to_contain_text("1 message")


@pytest.mark.parametrize("tabs", [1, 2])
async def test_many_replies_at_once_leave_connections_for_the_rest(
    site: Site, open_site: OpenPage, tabs: int
) -> None:
    page, go = await open_site(), asyncio.Event()
    await send_and_wait(page, "plums")
    pages = [page, await second_tab(page)][:tabs]
    site.agent.script = ["Hello ", go]
    for n in range(8):
        tab = pages[n * tabs // 8]
        await button(tab, "New conversation").click()
        await send(tab, f"apples {n}")
        await expect(replies(tab)).to_contain_text("Hello")
    await past(page).filter(has_text="plums").click()
    await expect(replies(page)).to_contain_text("Fine.")
    go.set()


async def test_a_message_that_fails_while_another_conversation_is_shown_can_be_sent_again(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    go = asyncio.Event()
    site.agent.script, site.agent.failure = [go], Unavailable("The model can't be reached")
    await send(page, "apples")
    await button(page, "New conversation").click()
    go.set()
    await expect(past(page)).to_have_text("applesNot answered")
    await expect(page.get_by_role("alert")).to_be_hidden()
    site.agent.failure = None
    await page.goto("ui/")
    await expect(past(page)).to_have_text("applesNot answered")
    await past(page).click()
    await expect(replies(page)).to_contain_text("Not answered.")
    await button(page, "Send again").click()
    await expect(progress(page)).to_have_text("Reply complete.")
    await expect(questions(page)).to_have_text(re.compile("apples"))


async def test_a_reply_is_read_out_once_it_is_complete_and_a_conversation_not_at_all(
    site: Site, open_site: OpenPage
) -> None:
    site.agent.script = ["Two lines:", "\n\n```python\nprint(1)\n```\n"]
    page = await open_site()
    spoken = page.locator("[aria-live=polite]:not(#no-conversations)")
    heard = """element => {
        window.heard = [];
        const note = () => heard.push(element.textContent);
        new MutationObserver(note).observe(element, { childList: true, subtree: true });
    }"""
    await spoken.evaluate(heard)
    await send_and_wait(page, "Write it")
    await expect(spoken).to_have_text("")  # it is not to be found twice
    await button(page, "New conversation").click()
    await past(page).click()
    await expect(replies(page)).to_contain_text("Two lines")
    (told,) = await page.evaluate("heard.filter(Boolean)")
    assert told.split() == ["Two", "lines:", "print(1)"]


async def test_a_reply_is_read_out_also_while_the_drawer_is_open(
    site: Site, open_site: OpenPage
) -> None:
    page, go = await open_site(viewport={"width": 390, "height": 800}), asyncio.Event()
    site.agent.script = [go, "Fine."]
    await send(page, "apples")
    await button(page, "Conversations").click()
    go.set()
    await expect(progress(page)).to_have_text("Reply complete.")
    silenced = page.locator("[inert]")
    await expect(silenced).to_have_count(1)
    await expect(silenced.get_by_role("status", name="Progress")).to_have_count(0)


async def test_a_return_to_the_window_reads_out_nothing_again(
    site: Site, open_site: OpenPage
) -> None:
    site.agent.script = [ToolCall("get_current_time", "{}"), "It is noon."]
    page = await open_site()
    await send_and_wait(page, "When?")
    await page.clock.install()
    await page.clock.fast_forward(4000)
    added = """() => {
        window.added = [];
        const note = (changes) => changes.forEach((change) => added.push(...change.addedNodes));
        const log = document.getElementById("log");
        new MutationObserver(note).observe(log, { childList: true, subtree: true });
    }"""
    await page.evaluate(added)
    async with page.expect_response(re.compile("/conversations/")):
        await page.evaluate("dispatchEvent(new Event('focus'))")
    assert (
        await page.evaluate("new Promise(done => setTimeout(() => done(added.length), 100))") == 0
    )


async def test_tool_calls_are_shown_also_after_a_reload(site: Site, open_site: OpenPage) -> None:
    go = asyncio.Event()
    site.agent.script = [
        ToolCall("get_current_time", "{}"),
        go,
        ToolCall("look_it_up", "{}"),
        "Done",
    ]
    page = await open_site()
    await send(page, "When?")
    await expect(replies(page)).to_contain_text("Looked up the time")
    go.set()
    for _ in range(2):
        await expect(replies(page)).to_contain_text("Done")
        for words in ("Looked up the time", "Used look it up"):
            await expect(replies(page).get_by_text(words, exact=True)).to_have_count(1)
        await page.reload()


async def test_a_reply_of_five_thousand_words_takes_little_cpu(
    site: Site, open_site: OpenPage
) -> None:
    # Some lines per paragraph, in pieces as fast as a fast model's.
    site.agent.script = []
    for n in range(5000):
        site.agent.script += [f"word{n} " if n % 50 else "\n\nword "]
        site.agent.script += [] if n % 10 else [0.01]
    page = await open_site()
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable")

    async def busy_s() -> float:
        metrics = (await session.send("Performance.getMetrics"))["metrics"]
        return next(float(one["value"]) for one in metrics if one["name"] == "TaskDuration")

    before = await busy_s()
    await send(page, "Write")
    await expect(progress(page)).to_have_text("Reply complete.", timeout=60_000)
    assert (await replies(page).inner_text()).count("word") == 5000
    spent_s = await busy_s() - before
    assert spent_s < 4, f"{spent_s} s"
