"""What Linux reports about processes and this machine."""

import os
import platform
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, with its threads and its ended children."""
    # The second field, the program's name, may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def rss_mb(pid: int) -> float:
    """The resident memory of a process, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6


def load_average() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]


def machine() -> dict[str, str]:
    """The properties on which figures depend, none of which identifies the machine."""
    models = [
        line.partition(": ")[2]
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "CPU": models[0] if models else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_kb / 1e6:.0f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": sys.version.split()[0],
        "OpenSSL": ssl.OPENSSL_VERSION.split()[1],
        "date": datetime.now(UTC).date().isoformat(),
    }
