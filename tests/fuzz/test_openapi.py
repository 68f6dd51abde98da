"""The gateway against its own OpenAPI document: answers to valid and invalid requests of all kinds
that the document allows or forbids."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import schemathesis
from hypothesis import assume, given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    load_all_checks,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.python.asgi import shutdown_lifespans

from tests.fuzz.amounts import amount
from tests.real_services import real_gateway

_ALWAYS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# The client can't encode other characters in a header.
_VALUES = st.text(st.characters(codec="latin-1", exclude_categories=["Cc", "Zs"]), max_size=40)
_HEADERS = st.dictionaries(
    st.sampled_from(
        ["Accept", "Accept-Encoding", "Authorization", "Content-Encoding", "Content-Type", "Cookie",
         "Expect", "Forwarded", "If-None-Match", "Origin", "Range", "Transfer-Encoding", "Upgrade",
         "X-Forwarded-For", "X-Forwarded-Proto", "X-HTTP-Method-Override", "dapr-app-id"]
    ),
    _VALUES | st.sampled_from(["application/json; charset=utf-16", "multipart/form-data", "gzip"]),
    max_size=5,
)  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_QUERY = st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=4)


@pytest.fixture
def document(tmp_path: Path) -> Iterator[schemathesis.BaseSchema]:
    load_all_checks()
    document = schemathesis.openapi.from_asgi("/openapi.json", real_gateway(tmp_path))
    # A stream is documented as text. Schemathesis checks each of its events by itself.
    answers: Any = document.raw_schema["paths"]["/chat/stream"]["post"]["responses"]
    stream = answers["200"]["content"]["text/event-stream"]
    stream["schema"] = stream["schema"]["contentSchema"]
    # The document can't express the form of a page token, nor how long a text or how large
    # a body this service accepts.
    checks = document.config.checks
    for check, status in (
        (checks.positive_data_acceptance, "400"),
        (checks.negative_data_rejection, "413"),
    ):
        check.expected_statuses = [*check.expected_statuses, status]
    yield document
    shutdown_lifespans()


@pytest.fixture
def statuses(record_property: Callable[[str, object], None]) -> Iterator[Counter[int]]:
    """Counts the statuses."""
    statuses: Counter[int] = Counter()
    yield statuses
    record_property("cases", statuses.total())
    record_property("statuses", dict(statuses))


def operations(document: schemathesis.BaseSchema) -> Iterator[Any]:
    for result in document.get_all_operations():
        operation: Any = result
        yield operation.ok()


def call(case: schemathesis.Case[Any], **options: Any) -> Any:
    """Send it, and retry once if analytics missed its timeout of 0.5 s on a busy machine."""
    answer = case.call(**options)
    return case.call(**options) if answer.status_code == 504 else answer


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mode", GenerationMode)
def test_answers_are_as_documented(
    document: schemathesis.BaseSchema,
    mode: GenerationMode,
    statuses: Counter[int],
    subtests: pytest.Subtests,
) -> None:
    for operation in operations(document):
        # Without input, nothing can be invalid.
        if mode.is_negative and not (
            operation.body or operation.path_parameters or operation.query
        ):
            continue

        @amount(short=20, full=800)
        @given(operation.as_strategy(generation_mode=mode))
        def check(case: schemathesis.Case[Any]) -> None:
            # Among thousands of paths, Schemathesis takes one with a tab for valid.
            assume(mode.is_negative or not _CONTROL.search(unquote(case.formatted_path)))
            answer = call(case)
            case.validate_response(answer)
            statuses[answer.status_code] += 1

        with subtests.test(operation.label):
            check()
    assert statuses[200 if mode.is_positive else 422]


@pytest.mark.timeout(1200)
def test_undocumented_headers_and_queries_do_no_harm(
    document: schemathesis.BaseSchema, statuses: Counter[int], subtests: pytest.Subtests
) -> None:
    for operation in operations(document):

        @amount(short=10, full=300)
        @given(operation.as_strategy(), _HEADERS, _QUERY)
        def check(
            case: schemathesis.Case[Any], headers: dict[str, str], query: dict[str, str]
        ) -> None:
            case.query = {**query, **(case.query or {})}
            answer = call(case, headers=headers)
            case.validate_response(answer, checks=_ALWAYS)
            statuses[answer.status_code] += 1

        with subtests.test(operation.label):
            check()
