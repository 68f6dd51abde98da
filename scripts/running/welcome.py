"""What scripts/run.sh prints once the stack is up."""

import shlex
from ipaddress import ip_address

from chat_service.settings import ChatSettings
from daca_shared.addresses import address
from scripts.service import Service

_BODY = '{"user_id":"alice","text":"How many messages have I sent?"}'


def url_of(chat: Service) -> str:
    """The gateway's URL, by address: at another address of `localhost` another program may have
    the same port."""
    return f"http://{address(chat.host, chat.ports['HTTP'])}"


def welcome(chat: Service, *, way: str, traces: str = "", tokens: str = "") -> str:
    """`way`: how chat asks analytics. The others are texts about what runs beside the stack."""
    settings = ChatSettings.from_environment(**chat.environment)
    url, grpc = url_of(chat), address(chat.host, chat.ports["gRPC"])
    return f"""
DACA Chat is up; chat asks analytics {way}.

  chat page          {url}/ui/
  API documentation  {url}/docs
  chat over gRPC     {grpc}
{traces}{_exposure(settings)}
{_try_it(settings, url, with_headers=bool(traces))}
{tokens}
Ctrl-C stops everything."""


def _try_it(settings: ChatSettings, url: str, *, with_headers: bool) -> str:
    # With headers, as one of them is the trace id.
    curl = "curl -i" if with_headers else "curl"
    post = f"-X POST {shlex.quote(f'{url}/chat/')} -d {shlex.quote(_BODY)}"
    if settings.jwt_secret:
        needed = "TOKEN=$(scripts/token.sh alice)"
        intro = "Try it, in a terminal with the same AUTH_JWT_SECRET:"
    elif settings.jwks_url:
        needed = "TOKEN=..."
        intro = f"Try it, with a token of your issuer's for alice and {settings.jwt_audience}:"
    else:
        return f"Try it:\n\n  {curl} {post}"
    return f'{intro}\n\n  {needed}\n  {curl} -H "Authorization: Bearer $TOKEN" {post}'


def _exposure(settings: ChatSettings) -> str:
    """What others can do here, if they can reach us."""
    if ip_address(settings.host).is_loopback:
        return ""
    risks = []
    if not (settings.jwt_secret or settings.jwks_url):
        risks.append("chat in any user's name (neither AUTH_JWKS_URL nor AUTH_JWT_SECRET is set)")
    if not settings.app_api_token:
        risks.append("read and add counts of any user (APP_API_TOKEN is not set)")
    if not risks:
        return ""
    may = "\n".join(f"  - {risk}" for risk in risks)
    return f"\nWARNING: who reaches this machine may, as DACA_HOST is {settings.host},\n{may}\n"
