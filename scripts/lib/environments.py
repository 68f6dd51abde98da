"""Which process gets which variables: only those that it needs, so that a key is only where it is
used, and one app's variable doesn't change another."""

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from analytics_service.settings import AnalyticsSettings
from chat_service.settings import ChatSettings
from daca_shared.settings import ServiceSettings, set_no_proxy
from scripts.lib.settings import RunnerSettings

SERVICES: dict[str, type[ServiceSettings]] = {
    "chat_service": ChatSettings,
    "analytics_service": AnalyticsSettings,
}
"""Our own apps, by the module that they run."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_EVERYONE = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LC_*", "LD_*", "DYLD_*",
    "SSL_CERT_*", *_PROXIES, *map(str.upper, _PROXIES),
)  # fmt: skip
_DAPR = ("DAPR_*", "APP_API_TOKEN", "OTEL_*")
# Variables that the services' libraries read.
_SERVICE = ("OTEL_*", "GRPC_*", "PG*", "REQUESTS_CA_BUNDLE", "PYTHONUNBUFFERED")
_OURS = {
    "chat_service": (*_SERVICE, "OPENAI_*"),
    "analytics_service": _SERVICE,
    "daprd": (*_DAPR, "GO*"),
    "sentry": ("GO*",),
    "jaeger": ("GO*",),
    "zipkin": ("JAVA_*", "_JAVA_*", "JDK_*"),
    "local_model": (),
}


def kind_of(command: Iterable[str]) -> str:
    """Which of our own apps the command runs; "" for somebody else's."""
    return next((part for part in command if part in SERVICES), "")


def share(environment: Mapping[str, str], kind: str) -> dict[str, str]:
    """The variables for a process of this kind. Somebody else's app gets all but ours, as we don't
    know what it needs."""
    if kind:
        allowed = (*_EVERYONE, *_OURS[kind], *_names(SERVICES.get(kind)))
        found = {name: v for name, v in environment.items() if _fits(name, allowed)}
    else:
        ours = {*_names(ChatSettings), *_names(AnalyticsSettings), *_names(RunnerSettings)}
        found = {n: v for n, v in environment.items() if n not in ours or _fits(n, _DAPR)}
    if any(name.lower() in _PROXIES[:3] for name in found):
        set_no_proxy(found)
    return found


def sidecar_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a sidecar."""
    return {
        # With more threads, a third of its CPU goes into passing work between them; with one it
        # still carries some 3,000 calls a second (ADR 0014).
        "GOMAXPROCS": "1",
        **share(environment, "daprd"),
        # The address that it tells other sidecars: it listens on no other.
        "DAPR_HOST_IP": "127.0.0.1",
    }


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _names(settings: type[ServiceSettings] | None) -> list[str]:
    return [str(f.validation_alias) for f in settings.model_fields.values()] if settings else []
