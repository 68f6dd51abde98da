import asyncio
import re

import pytest

from chat_service.web.markdown import render, rendered

LENGTH = 8000
BOMBS = {
    "a table with few cells and many columns": "|a" * 200 + "\n" + "|-" * 200 + "\n" + "a\n" * 4000,
    "a small table of that kind": ("|a" * 200 + "\n" + "|-" * 200 + "\n" + "a\n" * 400)[:1453],
    "quotes in quotes": ">" * LENGTH,
    "quotes and lists": "> - " * LENGTH,
    "lists in lists": "1. " * LENGTH,
    "stress in stress": "*" * 3999 + "a" + "*" * 3999,
    "brackets": "[" * LENGTH,
    "links in links": "[a](" * LENGTH,
    "pictures": "![" * LENGTH,
    "tags": "<a>" * LENGTH,
    "comments": "<!--" * LENGTH,
    "code": "`a" * LENGTH,
    "one long reference, used often": "[a]: " + "x" * 3000 + "\n\n" + "[a]" * LENGTH,
}


def test_markdown_becomes_html() -> None:
    html = render("# Hi\n\n**bold** `code`\n\n| a |\n|---|\n| 1 |\n\n3. x\n\n```py\n1 < 2\n```")
    assert "<h1>Hi</h1>" in html
    assert "<strong>bold</strong> <code>code</code>" in html
    assert "<td>1</td>" in html
    assert '<ol start="3">' in html
    assert "1 &lt; 2" in html


def test_links_have_noopener_noreferrer_and_nofollow() -> None:
    assert render("[x](https://example.com)") == (
        '<p><a href="https://example.com" rel="noopener noreferrer nofollow">x</a></p>\n'
    )


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("![A cat](https://example.com/cat 'Fur')", "🖼 A cat"),
        ("![A cat][c]", "🖼 A cat"),
        ("[![A cat](https://spy.example/cat.png)][c]", "A cat"),
    ],
)
def test_an_image_is_a_link(image: str, told: str) -> None:
    html = render(f"{image}\n\n[c]: https://example.com/cat")
    assert re.findall('<a href="(.*?)".*?>(.*?)</a>', html) == [("https://example.com/cat", told)]


@pytest.mark.parametrize(
    "text",
    [
        "[x](#setup)",
        "[x](note)",
        "[x](https:note)",
        "[x](//example.com)",
        "![x](x.png)",
        "x[^1]\n\n[^1]: note",
    ],
)
def test_a_link_that_would_lead_into_the_page_is_text(text: str) -> None:
    html = render(text)
    assert "x" in html
    assert "href" not in html


@pytest.mark.parametrize("tag", ["<br>", "<br/>", "<br />", "<BR>"])
def test_a_cell_can_have_lines(tag: str) -> None:
    assert "<td>1<br>2 &lt;b&gt;</td>" in render(f"| a |\n|---|\n| 1{tag}2 <b> |")


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "![x](https://spy.example/pixel.png)",
        "[x](javascript:alert(1))",
        "[x](  javascript&colon;alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "<a href='javascript:alert(1)'>x</a>",
        "<svg onload=alert(1)>",
        "<iframe src=https://example.com></iframe>",
        "<style>*{display:none}</style>",
        '[x](https://e.example "onmouseover=alert(1)")',
        "`<script>`",
        "<scr<script>ipt>alert(1)</scr</script>ipt>",
        "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
        "<input autofocus onfocus=alert(1)>",
        "- [x] <input type=text>",
        "<a href='`'>`<img src=x onerror=alert(1)>`",
        '```js"onload="alert(1)\n```',
        "<!-- x\n\n<style>",
    ],
)
def test_nothing_in_it_is_active(hostile: str) -> None:
    html = render(hostile)
    tags = re.findall(r"<[^>]*>", html)
    assert not any(re.match(r"<(script|img|svg|iframe|style|math|form)", t) for t in tags)
    boxes = [t for t in tags if t.startswith("<input")]
    assert all('type="checkbox"' in box and "disabled" in box for box in boxes)
    assert not any(re.search(r"\son\w+=|javascript:|data:", re.sub(r'title="[^"]*"', "", t))
                   for t in tags)  # fmt: skip


def test_task_lists_have_disabled_checkboxes() -> None:
    html = render("- [x] done\n- [ ] to do")
    box = {"type": "checkbox", "disabled": "", "aria-label": "Done"}
    boxes = re.findall("<input(.*?)>", html)
    assert [dict(re.findall(r' (.*?)="(.*?)"', found)) for found in boxes] == [
        {"checked": "", **box},
        box,
    ]


def test_code_says_its_language_and_nothing_else_has_a_class() -> None:
    assert '<code class="language-c++">' in render("```c++ and more\nx\n```")
    assert "sidebar" not in render("```a\tsidebar\nx\n```")
    assert "class" not in render(f"```{'x' * 100}\nx\n```")


@pytest.mark.parametrize(
    "text",
    ["a List<String> of it", "<div>\n<b>x</b>\n</div>", "ends in <!-- a comment", "1 < 2", "é<b>é"],
)
def test_raw_html_is_shown_as_it_was_written(text: str) -> None:
    shown = re.sub("<[^>]*>", "", render(text)).strip()
    assert shown.replace("&lt;", "<").replace("&gt;", ">") == text


@pytest.mark.parametrize(
    ("begin", "html"),
    [
        ("<?php begins:\n\n```\n", "<pre><code>"),
        ("<!-- begins\n~~~\n", "<pre><code>"),
        ("Put this\n<style>\nthere:\n\n```\n", "<pre><code>"),
        ("1. <pre> keeps spaces:\n\n       ", "<pre><code>"),
        ("<script> and `", "<code>"),
        ("<div>\n<br>\n<div> or `", "<br>"),
        ("# On <b>\n    ", "<pre><code>"),
        ("<div>\n\n    ", "<pre><code>"),
    ],
)
def test_code_after_raw_html_is_shown_as_it_was_written(begin: str, html: str) -> None:
    code = "a < b; <!-- </style> <script> -->"
    shown = render(begin + code + ("`" if begin.endswith("`") else ""))
    assert html in shown
    assert code.replace("<", "&lt;").replace(">", "&gt;") in shown
    assert "amp;" not in shown


@pytest.mark.parametrize(
    "begin", ["```py\n", "~~~py\n", "```other\n", "- ```py\n  ", "``` ~~~\n", "``` \\~~~\n"]
)
@pytest.mark.parametrize("end", ["", "\n", "\n```\n"])
def test_code_is_shown_as_it_was_written_also_if_it_has_not_ended(begin: str, end: str) -> None:
    shown = re.sub("<[^>]*>", "", render(f"{begin}x = 1{end}")).split()
    assert shown[:3] == ["x", "=", "1"]
    assert shown[3:] in ([], end.split())


def test_markdown_follows_line_breaks_and_raw_html() -> None:
    assert render("<br>\n**bold**") == "<p><br>\n<strong>bold</strong></p>\n"
    assert "<pre><code" in render("<br>\n```\n<b>\n```\n")
    assert render("<div>\n\\<b\\>") == "<p>&lt;div&gt;\n&lt;b&gt;</p>\n"


def test_addresses_in_angle_brackets_are_links() -> None:
    text = "<https://e.example/a>, <me@e.example>, \\<https://e.example/>"
    text += ", [x](<https://e.example/b c>), [y]\n\n[y]: <https://e.example/d> 't'\n"
    links = [f"https://e.example/{path}" for path in ("a", "b%20c", "d")]
    assert re.findall('href="(.*?)"', render(text)) == [links[0], "mailto:me@e.example", *links[1:]]


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("**Note:**<br>text", "<strong>Note:</strong><br>text"),
        ("~~a.~~<T>", "<del>a.</del>&lt;T&gt;"),
        ("[q](https://h/?a<b 't<br>u')", 'href="https://h/?a%3Cb" title="t&lt;br&gt;u"'),
        ("![i](u 'x<br>y') z", "🖼 i</a> z"),
        ("x <!--me@e.example--> y", "x &lt;!--me@e.example--&gt; y"),
        ("](<script> rest", "](&lt;script&gt; rest"),
    ],
)
def test_raw_html_changes_nothing_around_it(text: str, html: str) -> None:
    assert html in render(text)


def test_a_line_break_in_code_is_shown_as_it_was_written() -> None:
    assert render("`<br/>`") == "<p><code>&lt;br/&gt;</code></p>\n"


def test_an_empty_text_is_empty_html() -> None:
    assert render("") == ""


@pytest.mark.parametrize("kind", BOMBS)
def test_excessive_growth_and_nesting_are_limited(kind: str) -> None:
    text = BOMBS[kind][:LENGTH]
    html = render(text)
    assert len(html) <= 20 * len(text) + 1000
    assert html.count("<blockquote>") + html.count("<li>") + html.count("<em>") <= 200


def test_a_very_long_text_is_shown_as_it_is() -> None:
    assert render("*a* " * 100_000).startswith("<pre>*a* *a* ")


async def test_the_event_loop_goes_on_while_a_page_of_replies_is_rendered() -> None:
    page = [bomb[:LENGTH] for bomb in BOMBS.values()] * 15
    working = asyncio.create_task(rendered(page))
    steps = 0
    while not working.done():
        await asyncio.sleep(0)
        steps += 1
    assert steps > 100
    assert await working == [render(text) for text in page]
