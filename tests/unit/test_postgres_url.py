"""PostgreSQL URLs with libpq's parameters."""

from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from chat_service.settings import ChatSettings
from daca_shared.domain import Unavailable
from daca_shared.storage.postgres import PostgresDatabase

HOST = "postgresql://user:hunter2@host/db"


async def application(url: str) -> str:
    database = await PostgresDatabase.open(SecretStr(url), "test", ["CREATE TABLE test.one ()"])
    ((name,),) = await database.read("SELECT current_setting('application_name')")
    await database.close()
    return str(name)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ("sslmode=prefer", "daca-chat"),
        ("sslmode=verify-full&sslrootcert=system", "daca-chat"),
        ("sslmode=prefer&channel_binding=prefer&connect_timeout=10", "daca-chat"),
        ("sslmode=disable&channel_binding=require", "daca-chat"),
        ("keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=3", "daca-chat"),
        ("target_session_attrs=read-write&passfile=/nowhere", "daca-chat"),
        ("application_name=mine&client_encoding=utf8", "mine"),
        ("options=-c%20application_name%3Dtheirs&application_name=", "daca-chat"),
        ("gssencmode=disable&sslcompression=0&sslsni=1&fallback_application_name=a", "daca-chat"),
        ("load_balance_hosts=random&max_protocol_version=latest&gssdelegation=0", "daca-chat"),
        ("pgbouncer=false&connect_timeout=0&tcp_user_timeout=0", "daca-chat"),
    ],
)
async def test_libpqs_parameters_are_taken(
    database_url: SecretStr, parameters: str, name: str
) -> None:
    assert await application(f"{database_url.get_secret_value()}&{parameters}") == name


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ("options=-c%20nonsense%3D1", "nonsense"),
        ("sslmod=require", "sslmod"),
        ("require_auth=scram-sha-256", "require_auth"),
        ("sslmode=maybe", "sslmode"),
        ("connect_timeout=soon", "connect_timeout"),
        ("pgbouncer=yes", "pgbouncer must be true or false"),
        ("target_session_attrs=other", "target_session_attrs"),
    ],
)
async def test_unknown_parameters_and_values_are_named_at_the_start(
    database_url: SecretStr, parameters: str, named: str
) -> None:
    url = database_url.get_secret_value().replace("postgres@", "postgres:hunter2@")
    with pytest.raises(Unavailable, match=named) as refused:
        await application(f"{url}&{parameters}")
    assert str(refused.value).startswith("DATABASE_URL: ")
    assert "hunter2" not in str(refused.value)


async def test_several_hosts_may_be_named(database_url: SecretStr) -> None:
    folder = parse_qs(urlsplit(database_url.get_secret_value()).query)["host"][0]
    url = database_url.get_secret_value().replace(folder, f"/nowhere,{folder}")
    assert await application(f"{url}&target_session_attrs=read-write") == "daca-chat"
    for hosts in ("first:5432,second:5433", "[::1]:5432,second"):
        ChatSettings.model_validate({"DATABASE_URL": f"postgresql://u:p@{hosts}/db"})


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://user:1#hunter2@host/db", "must be like postgresql://"),
        ("postgresql://user:hunter2@host,other:port/db", "must be like postgresql://"),
        ("mysql://user:hunter2@host/db", "must be like postgresql://"),
    ],
)
def test_an_invalid_url_is_reported_without_the_password(
    environment: pytest.MonkeyPatch, url: str, told: str
) -> None:
    environment.setenv("DATABASE_URL", url)
    with pytest.raises(SystemExit) as ended:
        ChatSettings.from_environment()
    assert "DATABASE_URL" in str(ended.value)
    assert told in str(ended.value)
    assert "hunter2" not in str(ended.value)
