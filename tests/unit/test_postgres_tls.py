"""PostgreSQL over TLS, with certificates of both sides."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from daca_shared.domain import Unavailable
from daca_shared.storage.postgres import PostgresDatabase
from lab.machine import free_port, nobody, open_files
from lab.postgres import running_cluster
from lab.stack import eventually
from tests.certificates import self_signed


def write_certificate(folder: Path) -> None:
    """`tls.pem` and `tls.key`: of the server `localhost` and of the client `postgres`, signed by
    itself."""
    certificate, key = self_signed(ec.generate_private_key(ec.SECP256R1()), "postgres")
    (folder / "tls.pem").write_bytes(certificate)
    secret = folder / "tls.key"
    secret.touch(0o600)
    secret.write_bytes(key)


@contextmanager
def server_that_wants_certificates() -> Iterator[tuple[str, Path]]:
    """Its URL, and the folder of its certificate, which clients may use, too."""
    port = free_port()
    with TemporaryDirectory() as place:
        folder = Path(place)
        write_certificate(folder)
        (folder / "hba").write_text("local all all trust\nhostssl all all all cert\n")
        if owner := nobody():  # who runs it
            for path in (folder, *folder.iterdir()):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        files = {"ssl_cert_file": "tls.pem", "ssl_key_file": "tls.key", "ssl_ca_file": "tls.pem"}
        settings = {name: folder / file for name, file in files.items()}
        settings |= {"hba_file": folder / "hba"}
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        with running_cluster(
            options=f"-c listen_addresses=localhost -c port={port} -c ssl=on {options}"
        ):
            yield f"postgresql://postgres@localhost:{port}/postgres?sslmode=verify-full", folder


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Path]]:
    with server_that_wants_certificates() as found:
        yield found


@pytest.fixture(autouse=True)
async def _no_connection_is_left() -> AsyncIterator[None]:
    """A refused connection is closed once the server has ended its TLS, too."""
    before = open_files()
    yield
    await eventually(partial(asyncio.to_thread, open_files), before)


async def is_encrypted(url: str) -> bool:
    database = await PostgresDatabase.open(SecretStr(url), "test", ["CREATE TABLE test.one ()"])
    ((answer,),) = await database.read("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    await database.close()
    return bool(answer)


@pytest.mark.parametrize("trusted", ["a file", "system"])
async def test_both_sides_show_certificates(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, trusted: str
) -> None:
    url, folder = server
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "tls.pem"))  # the machine's authorities
    root = "system" if trusted == "system" else folder / "tls.pem"
    mine = f"sslcert={folder}/tls.pem&sslkey={folder}/tls.key"
    assert await is_encrypted(f"{url}&sslrootcert={root}&{mine}")


@pytest.mark.parametrize("trusted", ["a file", "system"])
async def test_a_server_with_a_certificate_of_an_unknown_authority_is_refused(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trusted: str
) -> None:
    url, folder = server
    write_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "tls.pem"))
    root = "system" if trusted == "system" else tmp_path / "tls.pem"
    mine = f"sslcert={folder}/tls.pem&sslkey={folder}/tls.key"
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await is_encrypted(f"{url}&sslrootcert={root}&{mine}")


@pytest.mark.parametrize("trusted", ["a file", "system"])
@pytest.mark.parametrize(
    ("mine", "told"),
    [
        ("", "certificate"),
        ("sslcert=/no/such.pem&sslkey=/no/such.key", "No such file"),
    ],
)
async def test_a_missing_certificate_of_ours_is_reported(
    server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, trusted: str, mine: str, told: str
) -> None:
    url, folder = server
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "tls.pem"))
    root = "system" if trusted == "system" else folder / "tls.pem"
    with pytest.raises(Unavailable, match=f"DATABASE_URL: .*{told}"):
        await is_encrypted(f"{url}&sslrootcert={root}&{mine}")
