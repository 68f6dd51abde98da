import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from daca_shared.calls.errors import ERROR_DOMAIN, STATUSES, grpc_status, http_headers
from daca_shared.domain import (
    Conflict,
    DomainError,
    Forbidden,
    InvalidInput,
    LimitReached,
    NotFound,
    Unauthenticated,
)

CALLERS_FAULT = {InvalidInput, NotFound, Conflict, Unauthenticated, Forbidden, LimitReached}
ERRORS = [InvalidInput.field("text", "is bad")] + [
    kind("why") for kind in DomainError.__subclasses__() if kind is not InvalidInput
]


def status_of(error: DomainError) -> status_pb2.Status:
    """What is sent of the error, which must agree with the status of its call."""
    code, details, ((_, sent),) = grpc_status(error)
    status = status_pb2.Status.FromString(sent)
    assert (status.code, status.message) == (code.value[0], details)
    return status


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_http_status_is_of_the_right_class(error: DomainError) -> None:
    assert STATUSES[type(error)][1] // 100 == (4 if type(error) in CALLERS_FAULT else 5)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_domain_error_has_a_rich_status(error: DomainError) -> None:
    code, _ = STATUSES[type(error)]
    status = status_of(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, status.message) == (code_pb2.Code.Value(code.name), error.message)
    assert (info.domain, info.reason) == (ERROR_DOMAIN, error.code)


def test_no_two_domain_errors_share_a_status() -> None:
    assert len({code for code, _ in STATUSES.values()}) == len(ERRORS)


def test_invalid_input_names_its_fields() -> None:
    error = InvalidInput([("a", "is short"), ("b[1].c", "is long")])
    bad_request = error_details_pb2.BadRequest()
    assert status_of(error).details[1].Unpack(bad_request)
    named = [(v.field, v.description) for v in bad_request.field_violations]
    assert named == [("a", "is short"), ("b[1].c", "is long")]
    assert str(error) == "a: is short; b[1].c: is long"


def test_retry_delays_are_sent_over_both_transports() -> None:
    error = LimitReached("too many", retry_after_s=1.2)
    retry_info = error_details_pb2.RetryInfo()
    assert status_of(error).details[1].Unpack(retry_info)
    assert retry_info.retry_delay.ToMilliseconds() == 1200
    assert http_headers(error) == {"retry-after": "2"}


def test_a_missing_token_is_requested() -> None:
    assert http_headers(Unauthenticated("no token")) == {"www-authenticate": "Bearer"}
