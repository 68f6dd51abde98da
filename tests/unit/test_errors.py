import pytest
from google.rpc import code_pb2, error_details_pb2
from grpc import StatusCode

from daca_shared.calls.errors import (
    ERROR_DOMAIN,
    HTTP_STATUSES,
    STATUS_CODES,
    http_headers,
    http_status,
    status_of,
)
from daca_shared.domain import (
    DomainError,
    FieldViolation,
    InvalidInput,
    LimitReached,
    Unauthenticated,
)

FAILURES = [code for code in StatusCode if code is not StatusCode.OK]
CALLERS_FAULT = {
    StatusCode.CANCELLED,
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.ALREADY_EXISTS,
    StatusCode.PERMISSION_DENIED,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.ABORTED,
    StatusCode.OUT_OF_RANGE,
    StatusCode.UNAUTHENTICATED,
}
ERRORS = [InvalidInput.field("text", "is bad")] + [
    kind("why") for kind in DomainError.__subclasses__() if kind is not InvalidInput
]


@pytest.mark.parametrize("code", FAILURES, ids=lambda code: code.name)
def test_every_failure_has_an_http_status_that_blames_the_right_side(code: StatusCode) -> None:
    first, last = (400, 499) if code in CALLERS_FAULT else (500, 599)
    assert first <= HTTP_STATUSES[code] <= last


def test_there_are_sixteen_failures() -> None:
    assert len(FAILURES) == 16
    assert set(HTTP_STATUSES) == set(StatusCode)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_domain_error_has_a_rich_status(error: DomainError) -> None:
    code = STATUS_CODES[type(error)]
    status = status_of(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, status.message) == (code_pb2.Code.Value(code.name), error.message)
    assert (info.domain, info.reason) == (ERROR_DOMAIN, code.name)
    assert http_status(error) == HTTP_STATUSES[code]


def test_no_two_domain_errors_share_a_status() -> None:
    assert len(set(STATUS_CODES.values())) == len(ERRORS)


def test_invalid_input_names_its_fields() -> None:
    error = InvalidInput([FieldViolation("a", "is short"), FieldViolation("b[1].c", "is long")])
    bad_request = error_details_pb2.BadRequest()
    assert status_of(error).details[1].Unpack(bad_request)
    named = [(v.field, v.description) for v in bad_request.field_violations]
    assert named == [("a", "is short"), ("b[1].c", "is long")]
    assert str(error) == "a: is short; b[1].c: is long"


def test_when_to_try_again_is_told_over_both_transports() -> None:
    error = LimitReached("too many", retry_after_s=1.2)
    retry_info = error_details_pb2.RetryInfo()
    assert status_of(error).details[1].Unpack(retry_info)
    assert retry_info.retry_delay.ToMilliseconds() == 1200
    assert http_headers(error) == {"retry-after": "2"}


def test_a_missing_token_is_asked_for() -> None:
    assert http_headers(Unauthenticated("no token")) == {"www-authenticate": "Bearer"}
