"""A real PgBouncer in front of a throwaway PostgreSQL."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from lab.machine import as_nobody, free_port, tool
from scripts.lib.probes import is_free

_CONFIG = """[databases]
{database} = host={host} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = {clients}
"""


@contextmanager
def pooled(url: SecretStr, *, connections: int, clients: int = 100) -> Iterator[str]:
    """The URL of the same database through a PgBouncer with so many server `connections`, pooled
    per transaction, for at most so many `clients`."""
    parts, port = urlsplit(url.get_secret_value()), free_port()
    [host], database = parse_qs(parts.query)["host"], parts.path[1:]
    with tempfile.TemporaryDirectory(prefix="daca-pgbouncer-") as folder:
        Path(folder).chmod(0o755)
        config = Path(folder) / "pgbouncer.ini"
        config.write_text(
            _CONFIG.format(
                host=host, database=database, port=port, connections=connections, clients=clients
            )
        )
        # It refuses to run as root.
        command = as_nobody([str(tool("PGBOUNCER")), "--quiet", str(config)])
        with subprocess.Popen(command) as process:
            try:
                while is_free("127.0.0.1", port) and process.poll() is None:
                    time.sleep(0.02)
                yield f"postgresql://postgres@127.0.0.1:{port}/{database}"
            finally:
                process.terminate()
