"""Errors as HTTP answers: the members of RFC 9457, and `detail` in FastAPI's own form."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from daca_shared.calls.errors import INTERNAL_MESSAGE, STATUSES, http_headers
from daca_shared.domain import DomainError
from daca_shared.observe.requests import current_request, note_reason

log = logging.getLogger(__name__)

MAX_BODY_BYTES, MAX_TITLE_BYTES = 1_000_000, 10_000
# Otherwise one megabyte of bad tags is answered with eighteen megabytes of errors.
_MAX_ERRORS = 10
_MEDIA_TYPE = "application/problem+json"
_CODES = {404: "NO_SUCH_ROUTE", 405: "METHOD_NOT_ALLOWED", 415: "NOT_JSON", 503: "OVERLOADED"}


class FieldError(BaseModel):
    """A field of the request, and which rule it breaks."""

    loc: list[str | int]
    msg: str
    type: str


class ErrorBody(BaseModel):
    """The answer to a request that is refused, or fails (RFC 9457)."""

    detail: str | list[FieldError]
    """What is wrong: in words, or field by field."""
    code: str
    """The cause, for programs; it stays the same in later versions."""
    type: str
    title: str
    status: int
    retry_after: int | None = None
    """After how many seconds to try again, if that is known: as `Retry-After`, which a stream that
    has begun can't send."""


_ERROR = {"content": {_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}}
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request is refused; `detail` says why", **_ERROR},
    "5XX": {"description": "The request may be fine, but can't be answered now", **_ERROR},
}


@dataclass(frozen=True)
class Problem:
    """An ASGI application that answers with an error."""

    status: int
    code: str
    detail: str | list[dict[str, Any]]
    headers: Mapping[str, str] | None = None

    @classmethod
    def of(cls, error: Exception) -> "Problem":
        match error:
            case DomainError():
                _, status = STATUSES[type(error)]
                return cls(status, error.code, error.message, http_headers(error))
            case RequestValidationError():
                # Without the input that FastAPI would send back. It may not even be valid Unicode.
                errors = error.errors()[:_MAX_ERRORS]
                fields = [{name: e[name] for name in ("loc", "msg", "type")} for e in errors]
                return cls(422, "INVALID_FIELD", fields)
            case HTTPException(status_code=400):
                # FastAPI's own words don't say what is wrong.
                return cls(400, "BAD_REQUEST", "The body can't be read as JSON in UTF-8")
            case HTTPException(status_code=413):
                most = f"a chat's may have {MAX_BODY_BYTES:,} bytes, a title's {MAX_TITLE_BYTES:,}"
                detail = f"The body is too large; {most}"
                return cls(413, "BODY_TOO_LARGE", detail)
            case HTTPException(status_code=status):
                return cls(status, _CODES.get(status, "BAD_REQUEST"), error.detail, error.headers)
        return cls(500, "INTERNAL", INTERNAL_MESSAGE)

    @classmethod
    def of_stream(cls, error: Exception) -> "Problem":
        """The same, for a stream that has already begun with status 200."""
        problem = cls.of(error)
        if not isinstance(error, DomainError):
            log.error("a stream failed unexpectedly", exc_info=error)
        if request := current_request.get():
            request.error, request.reason = str(problem.status), problem.code
        return problem

    @property
    def body(self) -> dict[str, Any]:
        title = HTTPStatus(self.status).phrase
        about: dict[str, Any] = {"type": "about:blank", "title": title, "status": self.status}
        if wait := (self.headers or {}).get("retry-after"):
            about["retry_after"] = int(wait)
        return {"detail": self.detail, "code": self.code, **about}

    @property
    def openai_error(self) -> dict[str, Any]:
        """The same in the form of OpenAI's API."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"  # noqa: PLR2004
        message = self.detail
        if not isinstance(message, str):
            message = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in message)
        return {"message": message, "type": kind, "param": None, "code": self.code}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        note_reason(self.code)
        of_openai = {"error": self.openai_error} if scope["path"].startswith("/v1/") else {}
        body = self.body | of_openai
        answer = JSONResponse(body, self.status, self.headers, media_type=_MEDIA_TYPE)
        await answer(scope, receive, send)


def answer_errors(app: FastAPI) -> None:
    async def answer(request: Request, error: Exception) -> Any:
        return Problem.of(error)

    for kind in (DomainError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, answer)
