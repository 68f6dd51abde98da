"""What scripts/run.sh ends in: run the stack, say where it is, stop it on Ctrl-C."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from daca_shared.settings import ServiceSettings
from scripts.secure import Security
from scripts.service import ROOT, Service
from scripts.stack import Stack, StackError
from scripts.tracing import Viewer, trace_sidecars


async def run(
    run_file: Path,
    daprd: Path | None,
    data_dir: Path,
    security: Security | None,
    viewer: Viewer | None,
) -> None:
    """Run the stack until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    if viewer is not None:
        os.environ.update(viewer.endpoint)
    stack = Stack(run_file, daprd=daprd, log_dir=data_dir / "logs")
    chat = next(app for app in stack.apps if "HTTP" in app.ports)
    if os.environ.get("CHAT_MODEL_PROVIDER") == "local":
        stack.add_local_model(int(os.environ.get("LOCAL_MODEL_PORT", "8003")), data_dir / "logs")
    if security is not None:
        await security.protect(stack)
    trace_sidecars(stack, ServiceSettings.from_environment(), data_dir / "tracing")
    if viewer is not None:
        stack.services = {viewer.service.name: viewer.service, **stack.services}
    stack.check_ports()
    url = f"http://localhost:{chat.ports['HTTP']}"
    print(f"starting {', '.join(stack.services)}; logs in {data_dir / 'logs'}", flush=True)
    try:
        await stack.start()
        await _do_until(stop, _wait_until_ready(stack, f"{url}/readyz", viewer))
        if not stop.is_set():
            print(_welcome(url, chat, daprd, security, viewer), flush=True)
            await _do_until(stop, stack.supervise())
    finally:
        # Nobody may be reading any more (`scripts/run.sh | head`): the stop matters more.
        with contextlib.suppress(OSError):
            print("stopping", flush=True)
        await stack.stop()


async def _do_until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work; `stop` ends it early."""
    tasks = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    if not tasks[0].cancelled():
        tasks[0].result()


async def _wait_until_ready(stack: Stack, url: str, viewer: Viewer | None) -> None:
    await stack.wait_until_ready(url)
    if viewer is not None:
        await viewer.wait_until_ready()


def _welcome(
    url: str,
    chat: Service,
    daprd: Path | None,
    security: Security | None,
    viewer: Viewer | None,
) -> str:
    way = "directly, without sidecars" if daprd is None else "through two Dapr sidecars"
    if security is not None:
        way += ", which speak mTLS"
    grpc = f"127.0.0.1:{chat.ports['gRPC']}"
    tokens = "" if security is None else security.token_help(chat.name, grpc)
    # With its headers, one of which is the trace's id.
    curl, traces = ("curl", "") if viewer is None else ("curl -i", viewer.help())
    return f"""
DACA Chat is up; chat asks analytics {way}.

  chat page          {url}/ui/
  API documentation  {url}/docs
  chat over gRPC     {grpc}
{traces}
Try it:

  {curl} -X POST {url}/chat/ -d '{{"user_id":"alice","text":"How many messages have I sent?"}}'
{tokens}
Ctrl-C stops everything."""


def main() -> None:
    """See `scripts/run.sh --help`."""
    parser = argparse.ArgumentParser(prog="scripts/run.sh", description="Run DACA Chat.")
    parser.add_argument("--direct", action="store_true", help="without Dapr sidecars")
    parser.add_argument(
        "--run-file", type=Path, default=ROOT / "dapr.yaml", help="default: dapr.yaml"
    )
    parser.add_argument(
        "--secure", type=Path, nargs="?", const=ROOT / "deploy/secure", metavar="FOLDER",
        help="with mTLS, access control and tokens; their Configurations: default deploy/secure",
    )  # fmt: skip
    viewers = parser.add_mutually_exclusive_group()
    for kind in ("zipkin", "jaeger"):
        viewers.add_argument(
            f"--{kind}", dest="kind", action="store_const", const=kind,
            help=f"with a {kind.title()} that shows a trace of each chat",
        )  # fmt: skip
    parser.add_argument("--viewer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--daprd", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--sentry", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.direct and arguments.secure:
        parser.error("--secure needs the sidecars that --direct leaves out")
    daprd = None if arguments.direct else arguments.daprd
    data_dir = Path(os.environ.setdefault("DACA_DATA_DIR", "data"))
    security = None
    if arguments.secure:
        security = Security(
            arguments.sentry,
            config_dir=arguments.secure,
            data_dir=data_dir,
            port=int(os.environ.get("SENTRY_PORT", "3600")),
            health_port=int(os.environ.get("SENTRY_HEALTH_PORT", "3601")),
        )
    try:
        viewer = None
        if arguments.kind:
            viewer = Viewer(arguments.kind, arguments.viewer, log_dir=data_dir / "logs")
        asyncio.run(run(arguments.run_file, daprd, data_dir, security, viewer))
    except StackError as error:
        sys.exit(f"scripts/run.sh: {error}")


if __name__ == "__main__":
    main()
