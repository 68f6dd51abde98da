"""The URL of a PostgreSQL, as libpq takes it."""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

_SCHEMES = ("postgresql", "postgres", "postgresql+asyncpg")
# What asyncpg reads in a URL, and what it passes on to the server.
_PASSED = frozenset(
    ("host", "port", "dbname", "database", "user", "password", "passfile", "service",
     "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation",
     "ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs",
     "krbsrvname", "gsslib", "application_name", "options")
)  # fmt: skip
# Without effect: no connection is idle for long, each call has a limit, and texts are UTF-8.
_NEEDLESS = frozenset(
    ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count",
     "tcp_user_timeout", "client_encoding", "fallback_application_name")
)  # fmt: skip


@dataclass(frozen=True)
class PostgresUrl:
    dsn: str = field(repr=False)
    """What asyncpg takes."""
    parameters: frozenset[str]
    """Which parameters `dsn` has."""
    connect_timeout_s: int | None
    is_pgbouncer: bool
    """Whether each transaction may be on another connection, as behind PgBouncer in the mode of
    that name. `pgbouncer=true` says so, as for Prisma."""
    wants_channel_binding: bool

    @classmethod
    def of(cls, url: str) -> Self:
        """Raises `ValueError`, which tells nothing of the URL but names of parameters."""
        parts, given = _split(url)
        timeout, binding = given.pop("connect_timeout", "0"), given.pop("channel_binding", "")
        pgbouncer = given.pop("pgbouncer", "false")
        if unknown := sorted(given.keys() - _PASSED - _NEEDLESS):
            raise ValueError(f"has parameters that are not known here: {', '.join(unknown)}")
        if pgbouncer not in ("true", "false"):
            raise ValueError("has a pgbouncer that is not true or false")
        if not (timeout.isascii() and timeout.isdecimal()):
            raise ValueError("has a connect_timeout that is no number of seconds")
        for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
            if not os.access(given.get(name, "/"), os.R_OK):
                raise ValueError(f"has a {name} that can't be read")
        passed = {name: value for name, value in given.items() if name in _PASSED}
        dsn = parts._replace(scheme="postgresql", query=urlencode(passed)).geturl()
        # 0 is no limit to libpq. Here it is our own.
        limit_s = int(timeout) or None
        return cls(dsn, frozenset(passed), limit_s, pgbouncer == "true", binding == "require")


def _split(url: str) -> tuple[SplitResult, dict[str, str]]:
    with suppress(ValueError):
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2].split(",")
        # Of a password that is not percent-encoded, the rest would be a port or a fragment.
        is_whole = all(urlsplit(f"//{host}").port != 0 for host in hosts) and not parts.fragment
        if parts.scheme in _SCHEMES and is_whole:
            query = parse_qsl(parts.query, strict_parsing=True) if parts.query else []
            return parts, dict(query)
    raise ValueError("must be like postgresql://user:password@host:5432/database?name=value")
