"""What can go wrong with a model and its host, recognised by what hosts say."""

import errno
import json
import logging
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import agents
import httpx2
import openai

from daca_shared import domain
from daca_shared.domain import Failed, InvalidInput, LimitReached, Misconfigured, Unavailable

log = logging.getLogger(__name__)

# How much of a host's error message is read, which takes 2 µs a character, and how much logged.
_MAX_READ, _MAX_WORDS = 16_000, 600

# Each pattern is matched against "<status> <message>". Rate limits may count tokens, too: the
# request is too long only if it exceeds such a limit by itself.
_NEVER_LONG = "402|408|504|429(?!.*request too large)"
TOO_LONG = re.compile(
    rf"^413|^(?!{_NEVER_LONG}).*("
    r"context[ _]?(length|window|size|limit)|context.(the.)?overflow|max_(model|seq)_len"
    r"|reduce the length|maximum (model|sequence|input|prompt) length|range of input length"
    r"|max_tokens must be at least 1, got -|[\"']1261[\"']"
    r"|inputs\W{1,3}(tokens|must have less)|too many (input )?tokens(?!.{0,9}wait))"
    # Other limits may be exceeded, too: words after the key "message" are mostly about those.
    rf"|^(?!{_NEVER_LONG}|5|.*(retries|execution time|concurrency|rate exceeded)).*("
    r"(input|prompt|request|messages?)(?!\\*[\"']\s*:|=)\W"
    r".{0,60}(too (long|large|many tokens)|exceeds?)|token(s| count).{0,40}exceed)",
    re.IGNORECASE | re.DOTALL,
)
# The errors of a host that is busy or away say nothing about what it supports.
_BUSY = "429|503|504|529|.*(temporar|overload)"


def _says(words: str, *, unless: str = _BUSY) -> re.Pattern[str]:
    return re.compile(f"^(?!{unless}).*({words})", re.IGNORECASE | re.DOTALL)


# Neither a fault in one tool, nor Bedrock's demand for `tools=` with earlier calls, means that the
# host supports no tools at all.
LACKS_TOOLS = _says(
    r"\b(tool|function)s?([ _-]?(use|calls?|calling|choice|param))?\b.{0,60}"
    r"(n.t (support|enabled|available|permitted)|unsupported|requires? --)"
    r"|(n.t support|that support|unsupported|unrecognized|unknown).{0,80}\b(tool|function)s?\b",
    unless=_BUSY + r"|.*(invalid schema|\btools\W{1,3}\d|tools=)",
)
_NO_CREDIT = re.compile(
    r"insufficient_quota|exceeded_current_quota|billing_(hard_limit|not_active)|payment required"
    r"|(insufficient|no|any|more|out of|all available) (balance|credit|fund)|credit balance"
    r"|arrearage|[\"']1113[\"']|key limit exceeded|budget.{0,30}exceeded|exceeded.{0,30}budget"
    r"|token_quota_reached",
    re.IGNORECASE,
)
_BAD_KEY = re.compile(
    r"api[ _]key.{0,20}(not valid|invalid)|(invalid|incorrect).{0,9}api.key", re.IGNORECASE
)
# After these, hosts quote the request, or what their model has said, which may contain any words.
_QUOTES = re.compile(
    r"[\"'](input|flagged_input|failed_generation)\\?[\"']:|\binput_value="
    r"|\bpars(e|ing)\b[^\"\n]{0,60}?:",
    re.IGNORECASE,
)
FILTERED = _says(
    r"content.?filter|content.?(policy.?violation|management policy)|data_inspection|invalid_prompt"
    r"|content exists risk|requires moderation|input was flagged|flagged as potentially"
    r"|sensitivecontent|violate[sd] (usage guidelines|safety guidelines|guardrail)|[\"']1301[\"']"
    r"|policy_violation|\b(bio|cyber)_policy"
)
_NO_MODEL = _says(
    r"model_not_(found|supported)|deploymentnotfound|(invalid|unknown|no such)[ _]model"
    r"|not a valid model|model_decommissioned"
    r"|\bmodels?\b[^.]{0,120}(not (found|exist|available)|n't exist|no longer available)"
    # Names of models may have dots.
    r"|\bmodels?\W{1,4}\S{1,100}\W{1,4}((is|does|was) )?(not (found|exist)|no longer available)"
    r"|not_found_error.{0,40}\bmodel:|model identifier is invalid|not found the model"
    r"|no endpoints found for |no healthy deployment|[\"']1211[\"']"
)

# Hosts use the same words for a feature that a model lacks and for a model that is retired.
_RETIRED = _says(
    r"\bmodels?\b([^.,;]|[.,;]\S){0,120}\b(decommissioned|retired|end of (its )?life)"
    r"|\bmodels?\W{1,4}\S{1,100}\W{1,4}((is|was|has been) )?"
    r"(not supported|no longer supported|deprecated)",
    unless=_BUSY + r"|.*\b(for|with|on|of|in) (this |that |the )?models?\b",
)

# The function that makes the caller's error, and the text for it.
type _Verdict = tuple[Callable[[str], domain.DomainError], str]
_BAD_TEXT = partial(InvalidInput.field, "text")
_REFUSED = Failed, "The model's host refused the request"
_LIMIT = LimitReached, "The model's rate limit is reached; try again later"
_CREDIT = Misconfigured, "This service has no credit left at the model's host"
_KEY = Misconfigured, "The model's host refuses this service's API key"
_MODEL = Misconfigured, "The model's host does not have this service's model"
_PLACE = Misconfigured, "The model's host doesn't know this address (OPENAI_BASE_URL) or model"
_LATE = domain.TimedOut, "The model took too long to answer; try again"
_AWAY = Unavailable, "The model can't be reached; try again later"
_NONSENSE = Unavailable, "The model's answer is cut short, or makes no sense; try again"
_LONG = "is too long for the model"
_LONG_TEXT = partial(_BAD_TEXT, _LONG)
_BY_WORDS: list[tuple[re.Pattern[str], _Verdict]] = [
    (TOO_LONG, (_LONG_TEXT, f"The conversation {_LONG}; start a new one, or say less")),
    (FILTERED, (_BAD_TEXT, "was refused by a filter of the model's host")),
    (_NO_CREDIT, _CREDIT), (_BAD_KEY, _KEY), (_NO_MODEL, _MODEL),
    (_RETIRED, _MODEL), (_says(": finish_reason "), _NONSENSE),
    (_says("tool_use_failed|(error parsing|failed to parse) (tool call|input)"), _NONSENSE),
    (re.compile("rate_limit_exceeded"), _LIMIT),
    (re.compile("unexpected endpoint", re.IGNORECASE), _PLACE),
]  # fmt: skip
_BY_STATUS: dict[int, _Verdict] = {
    400: _REFUSED, 401: _KEY, 402: _CREDIT, 403: _KEY, 404: _PLACE, 405: _PLACE, 408: _LATE,
    410: _PLACE, 422: _REFUSED, 429: _LIMIT, 451: _REFUSED, 504: _LATE,
}  # fmt: skip
_BY_KIND: list[tuple[Any, _Verdict]] = [
    # Before APIConnectionError, of which it is a subclass.
    (openai.APITimeoutError | agents.ModelTimeoutError, _LATE),
    # When OpenAI's stream breaks off, its HTTP client's own error comes through.
    (openai.APIConnectionError | openai.APIStatusError | httpx2.HTTPError, _AWAY),
    (openai.OpenAIError | agents.ModelBehaviorError | json.JSONDecodeError, _NONSENSE),
    # A call's arguments may have lone surrogates, or be nested too deeply.
    (UnicodeError | RecursionError, _NONSENSE),
    (agents.ModelRefusalError, (_BAD_TEXT, "was refused by the model")),
    (agents.InputGuardrailTripwireTriggered, (_BAD_TEXT, "was refused by a guardrail")),
    (
        agents.OutputGuardrailTripwireTriggered
        | agents.ToolInputGuardrailTripwireTriggered
        | agents.ToolOutputGuardrailTripwireTriggered,
        (_BAD_TEXT, "led to what a guardrail refuses"),
    ),
    (agents.MaxTurnsExceeded, (Failed, "The agent found no reply within its turns")),
    (BaseException, (Failed, "The agent could not make a reply")),
]

# By status. The class for all 5xx statuses has no status of its own: it is under None.
_ERRORS = {vars(kind).get("status_code"): kind for kind in openai.APIStatusError.__subclasses__()}
_SERVER_ERROR, _BAD_GATEWAY = 500, 502
_BY_TYPE = {"rate_limit": 429, "invalid_request": 400, "authentication_error": 401}
REQUEST = httpx2.Request("POST", "http://model")  # openai's errors require one


def status_error(status: Any, words: str, headers: Any = None) -> openai.APIStatusError:
    """The openai error for a status. For any other value, the words decide."""
    status = int(status) if str(status).isdecimal() else 0
    if status not in range(400, 600):
        status = next((n for word, n in _BY_TYPE.items() if word in words), _BAD_GATEWAY)
    kind = _ERRORS.get(status, _ERRORS[None] if status >= _SERVER_ERROR else openai.APIStatusError)
    response = httpx2.Response(status, headers=headers, request=REQUEST)
    return kind(f"{status}: {words[:_MAX_READ]}", response=response, body=None)


def _said(error: BaseException) -> str:
    """What the host has said, without what it quotes. OpenAI's client keeps the code apart."""
    code = getattr(error, "code", None) if isinstance(error, openai.APIError) else None
    said = f"{code} {error}" if code else str(error)
    return said[: quote.end()] if (quote := _QUOTES.search(said)) else said


def refuses(error: BaseException, pattern: re.Pattern[str]) -> bool:
    """Whether the host has refused the request with a status and message that match `pattern`."""
    kinds = openai.APIError | agents.ModelBehaviorError
    is_answer = isinstance(error, kinds) and not isinstance(error, openai.APIConnectionError)
    answer = f"{getattr(error, 'status_code', '')} {_said(error)}"
    return is_answer and bool(pattern.search(answer))


def is_known(error: BaseException) -> bool:
    """Whether the host has refused the request in words that we know."""
    known = (LACKS_TOOLS, *(pattern for pattern, _ in _BY_WORDS))
    return any(refuses(error, pattern) for pattern in known)


def domain_error(error: BaseException) -> domain.DomainError:
    """What went wrong, in our own words, as the host's may quote our key."""
    cause = error.__cause__ or error
    if isinstance(cause, domain.DomainError):
        return cause
    if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
        return Unavailable("The service has too many files open; try again", retry_after_s=1)
    verdict = next((verdict for pattern, verdict in _BY_WORDS if refuses(error, pattern)), None)
    verdict = verdict or _BY_STATUS.get(getattr(error, "status_code", 0))
    make, words = verdict or next(v for kinds, v in _BY_KIND if isinstance(error, kinds))
    failure = make(words)
    if isinstance(error, openai.APIStatusError):
        wait = error.response.headers.get("retry-after", "")
        seconds = re.fullmatch(r"[0-9]{1,5}(\.[0-9]+)?", wait)
        failure.retry_after_s = float(wait) if seconds else None
    return failure


def logged_failure(error: BaseException, key: str) -> domain.DomainError:
    """The error for the caller. Logs it with what the host said, or with what failed on the way to
    the host, without our key."""
    is_away = isinstance(error, openai.APIConnectionError) and error.__cause__
    said = _said(error) + (f" {error.__cause__}" if is_away else "")
    words = said.replace(key, "[redacted]")[:_MAX_WORDS]
    known = openai.OpenAIError | agents.AgentsException | httpx2.HTTPError | domain.DomainError
    # Known errors are logged without a traceback, which has the host's text and so maybe our key.
    trace = not isinstance(error, known)
    failure = domain_error(error)
    failure.code = f"MODEL_{failure.code.removeprefix('MODEL_')}"
    log.warning("no reply: %s (%s: %s)", failure, type(error).__name__, words, exc_info=trace)
    return failure
