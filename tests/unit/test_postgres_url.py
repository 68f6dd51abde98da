"""A PostgreSQL's URL with the parameters that libpq takes."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from chat_service.settings import ChatSettings
from daca_shared.domain import Unavailable
from daca_shared.postgres_url import PostgresUrl
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
        ("sslmode=prefer&channel_binding=prefer&connect_timeout=10", "daca-chat"),
        ("sslmode=disable&channel_binding=require", "daca-chat"),
        ("keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=3", "daca-chat"),
        ("target_session_attrs=read-write&passfile=/nowhere", "daca-chat"),
        ("application_name=mine&client_encoding=utf8", "mine"),
        ("options=-c%20application_name%3Dtheirs&application_name=", "daca-chat"),
        ("pgbouncer=false&connect_timeout=0&tcp_user_timeout=0", "daca-chat"),
    ],
)
async def test_libpqs_parameters_are_taken(
    database_url: SecretStr, parameters: str, name: str
) -> None:
    assert await application(f"{database_url.get_secret_value()}&{parameters}") == name


async def test_what_the_server_does_not_know_is_named(database_url: SecretStr) -> None:
    url = f"{database_url.get_secret_value()}&options=-c%20nonsense%3D1"
    with pytest.raises(Unavailable, match="nonsense"):
        await application(url)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"{HOST}?sslmod=require&b=2&sslmode=require", "not known here: b, sslmod"),
        (f"{HOST}?connect_timeout=soon", "connect_timeout"),
        (f"{HOST}?connect_timeout=-1", "connect_timeout"),
        (f"{HOST}?pgbouncer=maybe", "pgbouncer"),
        (f"{HOST}?sslrootcert=/no/such/file", "sslrootcert"),
        (f"{HOST}?sslmode", "must be like postgresql://"),
        ("postgresql://user:1?hunter2@host/db", "must be like postgresql://"),
        ("postgresql://user:1#hunter2@host/db", "must be like postgresql://"),
        ("postgresql://user:hunter2@host,other:port/db", "must be like postgresql://"),
        ("mysql://user:hunter2@host/db", "must be like postgresql://"),
    ],
)
def test_what_is_wrong_with_it_is_named_without_the_password(
    environment: pytest.MonkeyPatch, url: str, told: str
) -> None:
    environment.setenv("DATABASE_URL", url)
    with pytest.raises(SystemExit) as ended:
        ChatSettings.from_environment()
    assert "DATABASE_URL" in str(ended.value)
    assert told in str(ended.value)
    assert "hunter2" not in str(ended.value)


def test_it_may_name_several_hosts(tmp_path: Path) -> None:
    certificate = tmp_path / "root.crt"
    certificate.touch()
    url = PostgresUrl.of(
        "postgresql+asyncpg://user:p%40ss@first:5432,[::1]:5433,third/db"
        f"?target_session_attrs=read-write&sslrootcert={certificate}&pgbouncer=true&connect_timeout=7"
    )
    assert url.dsn.startswith("postgresql://user:p%40ss@first:5432,[::1]:5433,third/db?")
    assert (url.is_pgbouncer, url.connect_timeout_s) == (True, 7)
    assert url.parameters == {"target_session_attrs", "sslrootcert"}
    assert "p%40ss" not in repr(url)
