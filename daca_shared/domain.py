"""What both services share: what a user id is, and what can go wrong. Nothing here depends on a
transport; `daca_shared.calls.errors` maps the errors to gRPC and HTTP."""

import re
from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, StringConstraints, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

# No control characters and line separators, which could forge log lines; no slashes, for paths.
# Without lookaheads, which not every regex dialect supports.
_NONE_OF = r"\x00-\x1f\x7f-\x9f\u2028\u2029/\\"
_USER_ID_PATTERN = rf"^[^{_NONE_OF}]*[^\s{_NONE_OF}][^{_NONE_OF}]*$"


def _check_user_id(value: object, check: Callable[[object], str]) -> str:
    try:
        return check(value)
    except ValidationError:
        if not isinstance(value, str):
            raise
        rule = "must be 1 to 128 characters, not blank, with no control characters and no slashes"
        raise PydanticCustomError("user_id", rule) from None


UserId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128, pattern=_USER_ID_PATTERN),
    WrapValidator(_check_user_id),
]
"""Who sent a message: 1 to 128 characters, not blank, no control characters and no slashes."""


class DomainError(Exception):
    """An error for the caller, in our own words: another exception's text may hold a secret."""

    def __init__(
        self, message: str, *, code: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or re.sub(r"\B(?=[A-Z])", "_", type(self).__name__).upper()
        """The cause, for programs; it stays the same in later versions."""
        self.retry_after_s = retry_after_s
        """How long to wait before trying again; None if that isn't known."""


# Statuses are sent in HTTP/2 headers, which hold about 8 KB.
_MAX_VIOLATIONS = 10


class InvalidInput(DomainError):
    """The request breaks a rule; sending it again won't help. Lists the first ten violations:
    fields, e.g. `messages[3].user_id`, and the rules that they break, in words."""

    def __init__(
        self,
        violations: list[tuple[str, str]],
        message: str | None = None,
        code: str = "INVALID_FIELD",
    ) -> None:
        self.violations = violations[:_MAX_VIOLATIONS]
        parts = [f"{field}: {description}" for field, description in self.violations]
        if more := len(violations) - len(parts):
            parts.append(f"and {more} more")
        super().__init__(message or "; ".join(parts), code=code)

    @classmethod
    def field(cls, field: str, description: str, message: str | None = None) -> "InvalidInput":
        """The request breaks a rule in just this field."""
        return cls([(field, description)], message)


class NotFound(DomainError):
    """What was asked for does not exist."""


class Conflict(DomainError):
    """The request doesn't fit the present state, which has changed: look again, then decide."""


class Unauthenticated(DomainError):
    """The caller is not known: a token is missing or invalid."""


class Forbidden(DomainError):
    """The caller is known, and may not do this."""


FOREIGN_SITES = ("cross-site", "same-site")
"""The values of `Sec-Fetch-Site` for a request by a page of another origin. Such a page can't read
the answer, but the status shows whether a user exists, and the timing what a search has found."""


class Unavailable(DomainError):
    """Something that the service needs is away; trying again may help."""


def stopping_error() -> Unavailable:
    """The error for calls that are cut off because the service stops."""
    return Unavailable("The service is stopping", code="STOPPING")


class TimedOut(DomainError):
    """The answer did not come in time."""


MOMENT_S = 0.1
"""A margin for what happens slightly sooner or later than planned. A call cancelled this close
to its deadline has timed out, not been given up: the caller's deadline passes slightly earlier."""


class LimitReached(DomainError):
    """A quota or rate limit is used up; trying again later may help."""


class Misconfigured(DomainError):
    """The service was set up wrongly; only its operator can help."""


class Failed(DomainError):
    """The service failed in a known way, about which the caller can do nothing."""


def validated[M: BaseModel](model: type[M], fields: object) -> M:
    """A `model` of `fields`, a dict or an object that has them as attributes. Raises `InvalidInput`
    naming every field that breaks a rule."""
    try:
        return model.model_validate(fields, from_attributes=True)
    except ValidationError as error:
        # A default that depends on an invalid field is no error of its own.
        found = [e for e in error.errors() if e["type"] != "default_factory_not_called"]
        raise InvalidInput([(_path(e["loc"]), e["msg"]) for e in found]) from None


def _path(location: tuple[int | str, ...]) -> str:
    """`("messages", 3, "user_id")` → `messages[3].user_id`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).removeprefix(".")
