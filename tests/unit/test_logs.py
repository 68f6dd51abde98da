import asyncio
import errno
import io
import logging
from contextvars import copy_context

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from daca_shared.observe.logs import hash_user_id, log_request
from daca_shared.observe.requests import Request, begin_request, note_user
from tests.reports import Terminal, reported

log = logging.getLogger("a.library")


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def failing(text: str) -> None:
    raise RuntimeError(text)


def test_a_line_has_time_severity_logger_and_message() -> None:
    with reported() as report:
        log.warning("%d of %s", 3, "them")
    (line,) = report.lines
    assert (line["level"], line["logger"], line["event"]) == ("warning", "a.library", "3 of them")
    assert line["timestamp"].endswith("+00:00")


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_an_exception_is_one_json_line_or_a_readable_trace(stream: type[io.StringIO]) -> None:
    with reported(into=stream) as report:
        try:
            failing("the cause")
        except RuntimeError:
            log.exception("it failed")
    assert "RuntimeError: the cause" in report.text
    assert "in failing" in report.text
    if stream is not Terminal:
        assert report.lines[0]["event"] == "it failed"


@pytest.mark.parametrize("secret", ["0", "1", "x", "2026", "211.4"])
async def test_secrets_that_look_like_other_parts_leave_lines_as_json(secret: str) -> None:
    with reported(secrets=[secret]) as report:
        fields = {"duration_ms": 211.4, "status": 503}
        log_request(log, logging.INFO, "call", Request("req-10", None), fields)
        await asyncio.sleep(0)
    (line,) = report.lines
    assert (line["duration_ms"], line["status"], line["request_id"]) == (211.4, 503, "req-10")


def test_a_user_id_that_is_too_long_is_cut() -> None:
    def noted() -> str | None:
        request = begin_request([])
        note_user("a" * 1_000_000)
        return request.user_id

    assert copy_context().run(noted) == "a" * 128


@pytest.mark.parametrize("secret", ["sk-1234", 'a "quoted" one', "back\\slash", "geheimnüs"])
@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
async def test_secrets_are_removed_from_all_parts_of_a_line(
    secret: str, stream: type[io.StringIO]
) -> None:
    with reported(secrets=[secret], into=stream) as report:
        log.info("key %s", secret)
        log_request(log, logging.INFO, "call", Request("1", None), {"answer": f"bad {secret}"})
        await asyncio.sleep(0)
        try:
            failing(f"key {secret} refused")
        except RuntimeError:
            log.exception("it failed")
    assert secret not in report.text
    assert report.text.count("[redacted]") == 3
    if stream is not Terminal:
        assert secret not in str(report.lines)


def test_secrets_that_contain_each_other_are_removed_whole() -> None:
    secrets = ["sk-team-of-twenty-people"[:length] for length in range(4, 25)]
    with reported(secrets=secrets) as report:
        log.info("key %s refused", secrets[-1])
    assert report.lines[0]["event"] == "key [redacted] refused"


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_text_cannot_forge_a_line(stream: type[io.StringIO]) -> None:
    with reported(into=stream) as report:
        log.info("hello %s", "x\n2026-01-01 [info] forged\u2028\x1b[2J")
    assert len(report.text.splitlines()) == 1
    assert "\x1b[2J" not in report.text


@pytest.mark.parametrize("show", [True, False])
async def test_user_ids_are_hashed_unless_they_are_to_be_shown(show: bool) -> None:
    with reported(show_user_ids=show) as report:
        begin_request(["id-1"])
        note_user("alice")
        log.info("hello")
    (line,) = report.lines
    assert line["request_id"] == "id-1"
    assert line["user"] == ("alice" if show else hash_user_id("alice"))
    assert ("alice" in report.text) is show


def test_a_line_names_the_trace_that_it_is_part_of() -> None:
    context = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))
    with reported() as report, trace.use_span(NonRecordingSpan(context)):
        log.info("hello")
    assert report.lines[0]["trace_id"] == f"{0xABC:032x}"


def test_debug_lines_of_libraries_with_messages_are_left_out() -> None:
    with reported("DEBUG") as report:
        logging.getLogger("openai.agents").debug("Calling LLM: my secret diary")
        logging.getLogger("openai._base_client").debug("Request options: my secret diary")
        log.debug("but this")
    assert [line["event"] for line in report.lines] == ["but this"]


async def test_a_log_that_can_not_be_written_fails_no_request() -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: failures.append(about))
    with reported(into=Full) as report:
        log.info("hello")
        log_request(log, logging.INFO, "call", Request("1", None), {})
        await asyncio.sleep(0)
    assert (report.text, failures) == ("", [])
