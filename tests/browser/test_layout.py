"""The page zoomed, printed, with a screen reader, behind a proxy, and on a first visit."""

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.people import (
    button,
    count,
    message_box,
    past,
    questions,
    replies,
    send_and_wait,
    send_edit,
)
from tests.browser.sites import Site
from tests.browser.test_replies import REPLY, WIDE
from tests.browser.troubles import STREAM, see_a_problem

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def violations(page: Page) -> list[str]:
    """In both themes, of which the last stays."""
    found = []
    for theme in ("light", "dark"):
        await page.emulate_media(color_scheme=theme)
        await expect(page.locator("html")).to_have_attribute("data-theme", theme)
        run = await Axe().run(page)
        found += [
            f"{theme}: {one['id']}: {node['html'][:200]}"
            for one in run.response["violations"]
            for node in one["nodes"]
        ]
    return found


@pytest.mark.parametrize(("width", "height"), [(1100, 800), (320, 800), (800, 400)])
async def test_axe_finds_nothing(width: int, height: int, site: Site, open_site: OpenPage) -> None:
    site.agent.script = [REPLY, "\n\n", WIDE, "\n\n```python\nx = 'a'  # b\nclass C: pass\n```"]
    page = await open_site(viewport={"width": width, "height": height})
    assert await violations(page) == []
    await send_and_wait(page, "Write")
    await expect(count(page)).to_have_text("Messages sent: 1")
    assert await violations(page) == []
    if width == 320:
        await button(page, "Conversations").click()
    await button(page, "Rename: Write").click()
    assert await violations(page) == []
    await page.keyboard.press("Escape")
    await button(page, "Delete: Write").click()
    assert await violations(page) == []


async def test_the_header_is_one_row_beside_the_list(open_site: OpenPage) -> None:
    page = await open_site()
    await page.evaluate("document.getElementById('sign-out').hidden = false")
    for width in (721, 830, 913):
        await page.set_viewport_size({"width": width, "height": 800})
        header = await page.get_by_role("banner").bounding_box()
        assert header
        assert header["height"] < 60, width


async def test_at_400_percent_the_log_is_usable(site: Site, open_site: OpenPage) -> None:
    # The size of a window of 1280 by 1024 at that zoom.
    site.agent.script = [REPLY]
    page = await open_site(viewport={"width": 320, "height": 256})
    await send_and_wait(page, "Write")
    box = await page.get_by_role("log").bounding_box()
    assert box
    assert box["height"] >= 110
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    for part in (message_box(page), button(page, "Send"), count(page)):
        await expect(part).to_be_in_viewport(ratio=1)


async def test_a_long_problem_and_a_long_edit_leave_all_in_sight(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples " * 60)
    long = {"detail": "The model's host is busy, " * 30}
    await page.route(STREAM, lambda route: route.fulfill(status=503, json=long))
    await send_edit(page, "pears\n" * 12)
    await see_a_problem(page)
    for width, height in ((360, 640), (360, 520), (360, 420), (640, 400), (1100, 500)):
        await page.set_viewport_size({"width": width, "height": height})
        for part in (message_box(page), button(page, "Send"), page.get_by_role("log")):
            await expect(part).to_be_in_viewport(ratio=1)
        box = await page.get_by_role("log").bounding_box()
        assert box
        assert box["height"] >= 40, (width, height)
        assert await page.evaluate("document.documentElement.scrollHeight") <= height


async def test_nothing_moves_at_the_start(site: Site, open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await expect(past(page)).to_have_count(1)
    for address in (page.url, page.url.partition("#")[0]):
        await page.goto("about:blank")
        await page.goto(address)
        await expect(count(page)).to_have_text("Messages sent: 1")
        await expect(past(page)).to_have_count(1)
        await page.wait_for_timeout(300)
        moved = await page.evaluate(
            """() => new Promise(resolve => new PerformanceObserver(list => resolve(
                list.getEntries().reduce((sum, one) => sum + one.value, 0)
            )).observe({ type: "layout-shift", buffered: true }) || setTimeout(resolve, 300, 0))"""
        )
        assert moved < 0.1


async def test_the_open_conversation_is_seen_in_the_systems_own_colours(
    open_site: OpenPage,
) -> None:
    page = await open_site(forced_colors="active")
    await send_and_wait(page, "apples")
    await button(page, "New conversation").click()
    await send_and_wait(page, "pears")
    await expect(past(page)).to_have_count(2)
    outline = "one => getComputedStyle(one.parentNode).outline"
    shown, other = [await one.evaluate(outline) for one in await past(page).all()]
    assert "solid" in shown
    assert "rgba(0, 0, 0, 0)" not in shown
    assert "solid" not in other


async def test_a_long_title_leaves_the_choice_to_delete_in_sight(open_site: OpenPage) -> None:
    page = await open_site(viewport={"width": 320, "height": 640})
    await send_and_wait(page, f"https://example.com/{'x' * 200}")
    await button(page, "Conversations").click()
    await page.get_by_role("button", name="Delete: ").click()
    dialog = page.get_by_role("dialog")
    assert await dialog.evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
    await expect(dialog.get_by_role("button", name="Delete")).to_be_in_viewport(ratio=1)


async def test_print_prints_the_conversation(site: Site, open_site: OpenPage) -> None:
    site.agent.script = ["\n\n".join(f"Paragraph {n}." for n in range(100))]
    page = await open_site()
    await send_and_wait(page, "Write")
    await page.emulate_media(media="print")
    for hidden in ("navigation", "banner", "form"):
        await expect(page.get_by_role(hidden)).to_be_hidden()
    log = page.get_by_role("log")
    assert await log.evaluate("log => log.scrollHeight <= log.clientHeight")
    assert await page.evaluate("document.documentElement.scrollHeight > 3 * innerHeight")
    # Firefox cuts lines in two at the end of a page if they are in a grid.
    around = "element => getComputedStyle(element.closest('.turn')).display"
    assert await replies(page).evaluate(around) == "block"
    box = await questions(page).bounding_box()
    assert box
    assert box["width"] < 200
    await expect(button(page, "Copy")).to_be_hidden()


async def test_print_is_black_on_white_in_the_dark_theme(open_site: OpenPage) -> None:
    page = await open_site(color_scheme="dark")
    ink = "getComputedStyle(document.body).color"
    light = await page.evaluate(ink)
    await page.emulate_media(media="print")
    assert await page.evaluate(ink) != light
    # The sheet's own colour, which the page doesn't choose, follows it.
    assert await page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"


async def test_a_first_visit_leaves_no_errors_in_the_console(site: Site, browser: Browser) -> None:
    errors: list[str] = []
    async with await browser.new_context(base_url=site.url) as context:
        page = await context.new_page()
        page.on("console", lambda message: errors.append(f"{message.type}: {message.text}"))
        page.on("requestfailed", lambda request: errors.append(request.url))
        page.on("response", lambda answer: errors.extend([answer.url] * (answer.status >= 400)))
        await page.goto("ui/")
        await expect(count(page)).to_have_text("Messages sent: 0")
        await send_and_wait(page, "apples")
        await expect(past(page)).to_have_count(1)
        assert errors == []  # requests under way fail when the context is closed


async def test_the_services_root_url_leads_to_the_page(site: Site, open_site: OpenPage) -> None:
    page = await open_site()
    for address in ("", "ui"):
        await page.goto(f"{site.url}{address}")
        await expect(page.get_by_role("heading", name="DACA Chat")).to_be_visible()
        assert page.url == f"{site.url}ui/"
    # Programs still get JSON.
    answer = await page.request.get(site.url, headers={"accept": "*/*"})
    assert "Welcome" in (await answer.json())["message"]


async def test_the_chart_says_that_its_days_are_utc(open_site: OpenPage) -> None:
    page = await open_site()
    await send_and_wait(page, "apples")
    await expect(page.get_by_role("img", name="(of UTC)")).to_be_visible()
    tip = await page.locator("#activity title").last.text_content()
    assert tip
    assert "(UTC): " in tip
    await expect(replies(page)).to_have_count(1)


async def test_the_documentation_needs_no_internet_and_each_of_its_proposals_is_a_new_message(
    site: Site, open_site: OpenPage
) -> None:
    page = await open_site()
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url))
    await page.goto("docs")
    await expect(page.get_by_role("heading", name="DACA Chat")).to_be_visible()
    await expect(page.get_by_text("/chat/stream")).to_be_visible()
    for operation in ("chat-chat", "v1-chat_completions"):
        site.agent.asked.clear()
        block = page.locator(f"#operations-{operation}")
        await block.locator(".opblock-summary-control").click()
        await block.get_by_role("button", name="Try it out").click()
        for asked in range(1, 3):
            await block.get_by_role("button", name="Execute").click()
            await expect(block.locator(".live-responses-table")).to_contain_text("Fine.")
            await block.get_by_role("button", name="Clear").click()
            assert len(site.agent.asked) == asked
    assert [url for url in elsewhere if not url.startswith((site.url, "data:"))] == []


async def test_the_box_grows_without_field_sizing_too(open_site: OpenPage) -> None:
    page = await open_site()
    await page.add_init_script("CSS.supports = () => false")
    await page.reload()
    box = message_box(page)
    await box.evaluate("box => (box.style.fieldSizing = 'fixed')")
    low = await box.evaluate("box => box.offsetHeight")
    await box.fill("word " * 60)
    assert await box.evaluate("box => box.clientHeight >= Math.min(box.scrollHeight, 100)")
    assert await box.evaluate("box => box.offsetHeight") > low
    await box.fill("")
    assert await box.evaluate("box => box.offsetHeight") == low
