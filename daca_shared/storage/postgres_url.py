"""PostgreSQL's URLs, as libpq and so all other programs read them, translated for asyncpg."""

from ssl import SSLContext, create_default_context
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from daca_shared.domain import Unavailable

# URL parameters of libpq that asyncpg would pass on to the server, which refuses them. All but the
# first two are ignored: no connection idles for long, each call has a limit, texts are UTF-8.
_OUR_PARAMETERS = (
    "pgbouncer", "connect_timeout", "channel_binding", "keepalives", "keepalives_idle",
    "keepalives_interval", "keepalives_count", "tcp_user_timeout", "client_encoding",
    "fallback_application_name", "gssencmode", "gssdelegation", "sslcompression", "sslsni",
    "load_balance_hosts", "min_protocol_version", "max_protocol_version",
)  # fmt: skip


def connecting(url: str, timeout_s: float) -> dict[str, Any]:
    """Arguments for asyncpg, from a URL as libpq reads it. Raises `Unavailable`."""
    parts = urlsplit(url)
    query = {"application_name": "daca-chat"} | dict(parse_qsl(parts.query))
    pgbouncer, connect_timeout, *_ = [query.pop(name, "") for name in _OUR_PARAMETERS]
    if not (connect_timeout or "0").isdecimal():
        raise Unavailable("DATABASE_URL: connect_timeout must be whole seconds")
    if pgbouncer not in ("", "true", "false"):
        raise Unavailable("DATABASE_URL: pgbouncer must be true or false")
    # Compiling a query (JIT) takes tens of milliseconds, and our queries take one.
    limits = ("statement_timeout", "idle_in_transaction_session_timeout")
    settings = {"jit": "off"} | dict.fromkeys(limits, f"{timeout_s * 1000:.0f}")
    # PgBouncer gives each transaction another connection, so nothing can be prepared or set on it.
    is_own = pgbouncer != "true"
    return {
        "dsn": parts._replace(scheme="postgresql", query=urlencode(query)).geturl(),
        "timeout": int(connect_timeout or 0) or timeout_s,
        "ssl": _trusting_system_cas(query) if query.get("sslrootcert") == "system" else None,
        "server_settings": settings if is_own else {},
        "statement_cache_size": 100 if is_own else 0,
    }


def _trusting_system_cas(query: dict[str, str]) -> SSLContext:
    """For `system`, libpq's name for the machine's CAs: asyncpg would look for a file so named."""
    tls = create_default_context()
    if certificate := query.get("sslcert"):
        password = query.get("sslpassword", "")  # without any, Python would ask for it
        try:
            tls.load_cert_chain(certificate, query.get("sslkey"), password)
        except OSError as error:
            raise Unavailable(f"DATABASE_URL: sslcert or sslkey can't be used: {error}") from None
    return tls
