from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from analytics_service.settings import AnalyticsSettings
from chat_service.settings import ChatSettings
from daca_shared.settings import ServiceSettings

BOTH = pytest.mark.parametrize("settings", [AnalyticsSettings, ChatSettings])


@pytest.mark.parametrize(
    ("settings", "variable", "value"),
    [
        (AnalyticsSettings, "ANALYTICS_GRPC_PORT", "65599"),
        (AnalyticsSettings, "ANALYTICS_SEED_DEMO_USERS", "perhaps"),
        (AnalyticsSettings, "DACA_LOG_LEVEL", "LOUD-VALUE"),
        (AnalyticsSettings, "DACA_SHUTDOWN_GRACE_S", "-17"),
        (AnalyticsSettings, "DAPR_GRPC_PORT", "none-such"),
        (AnalyticsSettings, "OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        (AnalyticsSettings, "OTEL_EXPORTER_OTLP_HEADERS", "a-key-alone"),
        (AnalyticsSettings, "OTEL_EXPORTER_ZIPKIN_ENDPOINT", "nowhere"),
        (AnalyticsSettings, "OTEL_TRACES_SAMPLER", "sometimes"),
        (AnalyticsSettings, "OTEL_TRACES_SAMPLER_ARG", "1.77"),
        (AnalyticsSettings, "DACA_TRACE_CONTENT", "perhaps"),
        (ChatSettings, "CHAT_HTTP_PORT", "no-port"),
        (ChatSettings, "CHAT_GRPC_PORT", "-88"),
        (AnalyticsSettings, "ANALYTICS_METRICS_PORT", "65599"),
        (ChatSettings, "CHAT_METRICS_PORT", "none-such"),
        (ChatSettings, "DACA_LOG_USER_IDS", "perhaps"),
        (ChatSettings, "CHAT_TIMEOUT_S", "soonish"),
        (ChatSettings, "CHAT_MODEL_TIMEOUT_S", "99999"),
        (ChatSettings, "CHAT_MAX_TEXT_LENGTH", "-77"),
        (ChatSettings, "CHAT_MAX_CONCURRENT", "000"),
        (ChatSettings, "CHAT_ROOT_PATH", "daca/"),
        (ChatSettings, "CHAT_RATE_LIMIT_USER", "lots"),
        (ChatSettings, "CHAT_RATE_LIMIT_USER", "60/fortnight"),
        (ChatSettings, "CHAT_RATE_LIMIT_ADDRESS", "0/hour"),
        (ChatSettings, "CHAT_RATE_LIMIT_ADDRESS", "5/hour;sometimes"),
        (ChatSettings, "CHAT_TRUSTED_HOSTS", "https://chat.example"),
        (ChatSettings, "CHAT_CORS_ORIGINS", "localhost:3000"),
        (ChatSettings, "CHAT_CORS_ORIGINS", "http://localhost:3000,http://a/b"),
        (ChatSettings, "ANALYTICS_APP_ID", "análisis"),
        (ChatSettings, "ANALYTICS_ADDRESS", "http://127.0.0.1:8001"),
        (ChatSettings, "ANALYTICS_ADDRESS", "[::1"),
        (ChatSettings, "ANALYTICS_ADDRESS", "localhost"),
        (ChatSettings, "ANALYTICS_ADDRESS", "127.0.0.1:0"),
        (ChatSettings, "ANALYTICS_ADDRESS", "análisis:8001"),
        (ChatSettings, "CHAT_TRUSTED_HOSTS", "a-host,,another"),
        (ChatSettings, "CHAT_TRUSTED_HOSTS", "a.example b.example"),
        (ChatSettings, "CHAT_TRUSTED_HOSTS", "*.example.com"),
        (ChatSettings, "CHAT_TRUSTED_HOSTS", ".own.example"),
        (ChatSettings, "CHAT_TRUSTED_HOSTS", "bücher.example"),
        (ChatSettings, "CHAT_CORS_ORIGINS", "ftp:"),
        (ChatSettings, "CHAT_CORS_ORIGINS", "https://*.example.com"),
        (ChatSettings, "CHAT_CORS_ORIGINS", "https://chat.example.com:443"),
        (ChatSettings, "CHAT_CORS_ORIGINS", "http://chat.example.com:99999"),
        (ChatSettings, "CHAT_CORS_ORIGINS", "http://a.example http://b.example"),
        (ChatSettings, "ANALYTICS_ADDRESS", "dns:"),
        (ChatSettings, "CHAT_MAX_TEXT_LENGTH", "1000001"),
        (ChatSettings, "CHAT_TRUSTED_PROXIES", "*"),
        (ChatSettings, "CHAT_TRUSTED_PROXIES", "10.0.0.1,a-host"),
        (ChatSettings, "CHAT_TRUSTED_PROXIES", "10.0.0.1/"),
        (ChatSettings, "AUTH_JWKS_URL", "file:///etc/keys"),
        (ChatSettings, "AUTH_JWT_SECRET", "s" * 31),
        (ChatSettings, "DATABASE_URL", "mysql://user:pw@host/db"),
        (AnalyticsSettings, "DATABASE_URL", "postgresql://user:hunter2@host:port/db"),
        (AnalyticsSettings, "DACA_DATA_DIR", "~nobody-here/data"),
    ],
)
def test_a_bad_variable_is_named_without_its_value(
    environment: pytest.MonkeyPatch, settings: type[ServiceSettings], variable: str, value: str
) -> None:
    environment.setenv(variable, value)
    with pytest.raises(SystemExit) as exit_:
        settings.from_environment()
    assert variable in str(exit_.value)
    assert value not in str(exit_.value)


def test_all_bad_variables_are_named_at_once(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CHAT_HTTP_PORT", "x")
    environment.setenv("CHAT_TIMEOUT_S", "x")
    with pytest.raises(SystemExit, match=r"(?s)CHAT_HTTP_PORT.*CHAT_TIMEOUT_S"):
        ChatSettings.from_environment()


def test_unset_variables_have_their_defaults(environment: pytest.MonkeyPatch) -> None:
    analytics, chat = AnalyticsSettings.from_environment(), ChatSettings.from_environment()
    assert (analytics.grpc_port, chat.grpc_port, chat.http_port) == (8001, 8002, 8000)
    assert (analytics.metrics_port, chat.metrics_port) == (9465, 9464)
    assert (analytics.host, chat.host) == ("127.0.0.1", "127.0.0.1")
    assert analytics.seed_demo_users is False
    assert analytics.database == Path("data/analytics.db")
    assert chat.database == Path("data/chat.db")
    assert chat.cors_origins == ("http://localhost:3000",)
    assert chat.dapr_grpc_port is None
    assert (chat.jwks_url, chat.jwt_secret, chat.jwt_audience) == (None, None, "daca-chat")
    assert (chat.rate_limit_user, chat.rate_limit_address, chat.trusted_proxies) == ((), (), ())
    assert (chat.openai_api_key, chat.openai_base_url, chat.gemini_api_key) == (None, None, None)


@BOTH
@pytest.mark.parametrize("nothing", ["", " \n"], ids=["empty", "blank"])
def test_an_empty_variable_counts_as_unset(
    environment: pytest.MonkeyPatch, settings: type[ServiceSettings], nothing: str
) -> None:
    unset = settings.from_environment()
    for field in settings.model_fields.values():
        environment.setenv(str(field.validation_alias), nothing)
    assert settings.from_environment() == unset


def test_names_in_lower_case_are_no_settings(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`scripts/run.sh` doesn't pass them on, and would show a wrong port or token."""
    (tmp_path / ".env").write_text("auth_jwt_secret=" + "x" * 32)
    environment.setenv("chat_http_port", "1")
    settings = ChatSettings.from_environment()
    assert (settings.jwt_secret, settings.http_port) == (None, 8000)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CHAT_CORS_ORIGINS", "null"),
        ("CHAT_CORS_ORIGINS", "capacitor://localhost"),
        ("ANALYTICS_ADDRESS", "analytics_service:8001"),
        ("ANALYTICS_ADDRESS", "[::1]:8001"),
        ("ANALYTICS_ADDRESS", "dns:///analytics:8001"),
    ],
)
def test_unusual_values_are_accepted(
    environment: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    environment.setenv(variable, value)
    settings = ChatSettings.from_environment()
    assert value in (settings.analytics_address, *settings.cors_origins)


@BOTH
def test_settings_cannot_change(
    environment: pytest.MonkeyPatch, settings: type[ServiceSettings]
) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings.from_environment(), "host", "elsewhere")  # noqa: B010 - mypy knows it


def test_an_env_file_that_cannot_be_read_is_named(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "latin-1").write_bytes(b"CHAT_MODEL=caf\xe9\n")
    (tmp_path / "utf-16").write_text("CHAT_MODEL=m\n", "utf-16")
    (tmp_path / "folder").mkdir()
    for file in ("latin-1", "utf-16", "/proc/self/mem", "folder", "nowhere", ".env"):
        (tmp_path / ".env").unlink(missing_ok=True)
        (tmp_path / ".env").symlink_to(file)
        with pytest.raises(SystemExit, match=r" \.env: (?!line)"):
            ChatSettings.from_environment()


@pytest.mark.parametrize("between", [" ", ": ", "\n", "=\0"])
@BOTH
def test_a_line_of_an_env_file_that_sets_nothing_is_refused(
    environment: pytest.MonkeyPatch, tmp_path: Path, settings: type[ServiceSettings], between: str
) -> None:
    secret = f"AUTH_JWT_SECRET{between}" + "x" * 32
    (tmp_path / ".env").write_text(f"# a comment\nCHAT_MODEL=m\n{secret}\n")
    with pytest.raises(SystemExit, match=r"\.env: line 3 is not like NAME=value$"):
        settings.from_environment()


def test_a_bare_name_in_an_env_file_stands_for_the_environments_value(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("CHAT_MODEL\n")
    environment.setenv("CHAT_MODEL", "m")
    assert ChatSettings.from_environment().model == "m"


def test_a_bad_variables_meaning_is_told(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CHAT_ROOT_PATH", "daca/")
    with pytest.raises(SystemExit, match="The prefix of all paths, like `/daca`, that a proxy"):
        ChatSettings.from_environment()


def test_the_environment_outranks_the_env_file(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("CHAT_HTTP_PORT=1111\nCHAT_GRPC_PORT=2222\n")
    environment.setenv("CHAT_GRPC_PORT", "3333")
    settings = ChatSettings.from_environment()
    assert (settings.http_port, settings.grpc_port) == (1111, 3333)


@pytest.mark.parametrize(
    "value",
    [
        "http://a.example, http://b.example:81",
        "http://a.example/,http://b.example:81",
        "http://a.example,http://b.example:81,",
        "HTTP://A.example,http://b.example:81",
    ],
    ids=["with blanks", "as copied from an address bar", "with a comma at the end", "in capitals"],
)
def test_cors_origins_are_separated_by_commas(environment: pytest.MonkeyPatch, value: str) -> None:
    environment.setenv("CHAT_CORS_ORIGINS", value)
    origins = ChatSettings.from_environment().cors_origins
    assert origins == ("http://a.example", "http://b.example:81")


def test_only_one_way_of_checking_tokens_can_be_set(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AUTH_JWKS_URL", "https://issuer.example/jwks")
    environment.setenv("AUTH_JWT_SECRET", "s" * 32)
    with pytest.raises(SystemExit, match=r"AUTH_JWT_SECRET: .*together with AUTH_JWKS_URL"):
        ChatSettings.from_environment()


def test_a_secrets_length_counts_in_bytes(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AUTH_JWT_SECRET", "é" * 16)
    assert ChatSettings.from_environment().secrets() == ["é" * 16]


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://model.example/v1", "http://one.example:1"),
        ("https://model.example/v1", "http://two.example:2"),
        ("ftp://model.example/v1", "http://all.example:3"),
        ("https://excepted.example/v1", None),
        ("https://excepted.example:81/v1", None),
    ],
)
def test_each_url_gets_its_configured_proxy(
    environment: pytest.MonkeyPatch, url: str, proxy: str | None
) -> None:
    environment.setenv("http_proxy", "http://one.example:1")
    environment.setenv("https_proxy", "http://two.example:2")
    environment.setenv("all_proxy", "http://all.example:3")
    environment.setenv("no_proxy", "excepted.example")
    assert ChatSettings.from_environment().proxy_for(url) == proxy


def test_without_a_proxy_there_is_none(environment: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        environment.delenv(name, raising=False)
        environment.delenv(name.upper(), raising=False)
    assert ChatSettings.from_environment().proxy_for("https://model.example/v1") is None


def test_limits_and_proxies_are_lists(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CHAT_RATE_LIMIT_USER", "60/minute;1000 per day")
    environment.setenv("CHAT_TRUSTED_PROXIES", "10.0.0.1, fd00::/8")
    settings = ChatSettings.from_environment()
    assert [str(rate) for rate in settings.rate_limit_user] == ["60 per 1 minute", "1000 per 1 day"]
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.1/32", "fd00::/8"]


@pytest.mark.parametrize(
    ("sampler", "ratio"),
    [
        ("parentbased_always_on", 1),
        ("parentbased_always_off", 0),
        ("parentbased_traceidratio", 0.25),
        ("always_on", 1),
        ("always_off", 0),
        ("traceidratio", 0.25),
    ],
)
def test_each_sampler_becomes_a_ratio(
    environment: pytest.MonkeyPatch, sampler: str, ratio: float
) -> None:
    environment.setenv("OTEL_TRACES_SAMPLER", sampler)
    environment.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    assert ServiceSettings.from_environment().sampling_ratio == ratio


def test_headers_of_spans_are_decoded(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", "X-Key=a%20b=, x-team = chat")
    settings = ServiceSettings.from_environment()
    assert settings.otlp_headers_by_name == {"x-key": "a b=", "x-team": "chat"}
    assert "a b=" in settings.secrets()


def test_keys_are_not_shown(environment: pytest.MonkeyPatch) -> None:
    secrets = ("OPENAI_API_KEY", "GEMINI_API_KEY", "DAPR_API_TOKEN", "APP_API_TOKEN")
    for variable in (*secrets, "AUTH_JWT_SECRET"):
        environment.setenv(variable, "s3cret" * 6)
    environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s3cret")
    assert "s3cret" not in repr(ChatSettings.from_environment())


@BOTH
@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "postgresql", "postgres"])
def test_a_database_url_replaces_the_file_and_is_a_secret_as_its_password_is(
    environment: pytest.MonkeyPatch, settings: type[ServiceSettings], scheme: str
) -> None:
    url = f"{scheme}://daca:hunter2@host:5432/daca"
    environment.setenv("DATABASE_URL", url)
    found = settings.from_environment()
    assert isinstance(found, AnalyticsSettings | ChatSettings)
    assert isinstance(found.database, SecretStr)
    assert found.secrets() == [url, "hunter2"]


URLS = {
    "AUTH_JWKS_URL": "https://user:jw%40ks@issuer.example/keys?api_key=k%20ey&page=1",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "https://user:hunter2@collector.example",
    "DATABASE_URL": "postgresql://daca@host/daca?password=s%C3%A9same&sslmode=require",
    "https_proxy": "http://user:pro%3Axy@proxy.example:3128",
}


def test_passwords_in_all_urls_are_secrets_as_they_are_written_and_decoded(
    environment: pytest.MonkeyPatch,
) -> None:
    for variable, url in URLS.items():
        environment.setenv(variable, url)
    assert {*ChatSettings.from_environment().secrets()} == {
        URLS["DATABASE_URL"], "jw%40ks", "jw@ks", "k%20ey", "k ey", "hunter2", "s%C3%A9same",
        "sésame", "pro%3Axy", "pro:xy",
    }  # fmt: skip


def test_keys_of_mcp_servers_are_secrets(environment: pytest.MonkeyPatch) -> None:
    setting = """{
        "a": {"url": "http://mcp.example.com/a", "headers": {"X": "Bearer 0123456789abcdef"}},
        "b": {"command": "/usr/local/bin/b", "env": {"KEY": "fedcba9876543210", "LEVEL": "info"}}
    }"""
    environment.setenv("CHAT_MCP_SERVERS", setting)
    found = {*ChatSettings.from_environment().secrets()} - {setting.strip(), setting}
    assert found == {"0123456789abcdef", "fedcba9876543210"}


def test_metrics_can_be_off(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CHAT_METRICS_PORT", "off")
    environment.setenv("ANALYTICS_METRICS_PORT", "off")
    assert ChatSettings.from_environment().metrics_port is None
    assert AnalyticsSettings.from_environment().metrics_port is None
