"""The last step of scripts/run.sh: get missing programs, run the stack, say where it is, and stop
it on Ctrl-C."""

import signal

if __name__ == "__main__":
    # Until there is a StopButton, Ctrl-C ends us at once, even during these slow imports.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import asyncio
import os
import sys
from contextlib import ExitStack, closing
from pathlib import Path

from daca_shared.addresses import address
from daca_shared.settings import ServiceSettings
from scripts.lib.programs import ensure_local_model, get
from scripts.lib.project import ROOT, StackError, say
from scripts.lib.settings import RunnerSettings, path_given, read_environment
from scripts.names import write_names
from scripts.running.claim import Claim
from scripts.running.guardian import Guardian
from scripts.running.stopping import StopButton
from scripts.running.welcome import url_of, welcome
from scripts.secure import Security
from scripts.stack import Stack
from scripts.tracing import Viewer, trace_sidecars

_NO_DAPR = "no Dapr, no sidecars; 'scripts/run.sh --direct' runs the same services without them"
_NO_SENTRY = "no sentry, no certificates, no --secure"


class Runner:
    """One run of the stack, with these arguments and settings."""

    def __init__(self, arguments: argparse.Namespace, exits: ExitStack) -> None:
        """`exits` is closed when everything has been stopped."""
        self._arguments = arguments
        self._exits = exits
        # Only this user may read our files and those of our own apps.
        self._umask = os.umask(0o077)
        self._settings = RunnerSettings.from_environment()
        # Absolute, as apps, and readers of our output, may be in other folders.
        self._data_dir = self._settings.data_dir.absolute()
        self._environment = read_environment() | {"DACA_DATA_DIR": str(self._data_dir)}
        self._stack: Stack | None = None

    async def run(self) -> None:
        """Run until cancelled. Raises `StackError` if it can't go on."""
        # Checked before programs are installed, maybe for minutes, and again after that.
        with Claim(self._data_dir):
            self._stack_with(None).check_ports()
        viewer = await self._viewer()
        daprd = None if self._arguments.direct else await get("daprd", without=_NO_DAPR)
        sentry = await get("sentry", without=_NO_SENTRY) if self._arguments.secure else None
        if self._settings.model_provider:
            await ensure_local_model()

        claim = self._exits.enter_context(Claim(self._data_dir))
        guardian = self._exits.enter_context(closing(Guardian(claim.descriptor)))
        self._stack = stack = self._stack_with(daprd, viewer)
        chat = stack.app("chat_service")
        if chat is None:
            raise StackError(f"{self._arguments.run_file} has no app that runs chat_service")
        security = self._security(sentry) if sentry else None
        if security:
            security.sentry.note = guardian.note
            await security.protect(stack)
        self._add_the_rest(stack, viewer)
        for service in stack.services.values():
            service.note = guardian.note
        claim.record(stack.places())

        say(f"starting {', '.join(stack.services)}; logs in {self._data_dir / 'logs'}")
        await stack.start()
        await stack.wait_until_ready(f"{url_of(chat)}/readyz")
        if viewer is not None:
            await viewer.wait_until_ready()
        grpc = address(chat.host, chat.ports["gRPC"])
        tokens = security.token_help(chat.name, grpc) if security else ""
        traces = viewer.help() if viewer else ""
        say(welcome(chat, way=_way(daprd, security), traces=traces, tokens=tokens))
        await stack.supervise()

    async def stop(self) -> None:
        if self._stack is not None:
            say("stopping (Ctrl-C again: at once)")
            await self._stack.stop()

    def kill(self) -> None:
        if self._stack is not None:
            self._stack.kill()

    def _stack_with(self, daprd: Path | None, viewer: Viewer | None = None) -> Stack:
        return Stack(
            self._arguments.run_file,
            daprd=daprd,
            log_dir=self._data_dir / "logs",
            environment=self._environment | (viewer.endpoint if viewer else {}),
        )

    def _add_the_rest(self, stack: Stack, viewer: Viewer | None) -> None:
        if self._settings.model_provider:
            stack.add_local_model(self._settings.local_model_port)
        spans = ServiceSettings.from_environment(**(viewer.endpoint if viewer else {}))
        trace_sidecars(stack, spans, self._data_dir / "tracing")
        if viewer is not None:
            stack.services = {viewer.service.name: viewer.service, **stack.services}
        for app in stack.apps:
            if not app.is_vital:  # somebody else's
                app.umask = self._umask
        stack.check_ports()
        write_names(stack, self._data_dir / "names.yaml")
        if stack.not_understood:
            fields = ", ".join(stack.not_understood)
            say(f"{self._arguments.run_file}: fields that have no effect here: {fields}")

    async def _viewer(self) -> Viewer | None:
        kind = self._arguments.viewer
        if kind is None:
            return None
        program = await get(
            kind, script="install_tracing.sh", without=f"no {kind}, no --{kind}", asks=True
        )
        return Viewer(
            kind,
            program,
            log_dir=self._data_dir / "logs",
            settings=self._settings,
            environment=self._environment,
        )

    def _security(self, sentry: Path) -> Security:
        return Security(
            sentry,
            config_dir=self._arguments.secure,
            data_dir=self._data_dir,
            port=self._settings.sentry_port,
            health_port=self._settings.sentry_health_port,
            environment=self._environment,
        )


def _way(daprd: Path | None, security: Security | None) -> str:
    if daprd is None:
        return "directly, without sidecars"
    return "through two Dapr sidecars" + (", which speak mTLS" if security else "")


async def run(arguments: argparse.Namespace) -> None:
    """Run the stack until SIGINT or SIGTERM."""
    with ExitStack() as exits:
        runner = Runner(arguments, exits)
        button = StopButton(runner.kill)
        try:
            await button.ends(runner.run())
        finally:
            await runner.stop()


def main() -> None:
    """See `scripts/run.sh --help`."""
    parser = argparse.ArgumentParser(
        prog="scripts/run.sh",
        description="Install what is missing, run both services with their Dapr sidecars, and say "
        "where. Ctrl-C stops everything. docs/configuration.md lists what the environment can say.",
    )
    parser.add_argument("--direct", action="store_true", help="without Dapr sidecars")
    parser.add_argument(
        "--run-file", type=path_given, default=ROOT / "dapr.yaml", help="default: dapr.yaml"
    )
    parser.add_argument(
        "--secure", type=path_given, nargs="?", const=ROOT / "deploy/secure", metavar="FOLDER",
        help="with mTLS, access control and tokens; their Configurations: default deploy/secure",
    )  # fmt: skip
    viewers = parser.add_mutually_exclusive_group()
    for kind in ("zipkin", "jaeger"):
        viewers.add_argument(
            f"--{kind}", dest="viewer", action="store_const", const=kind,
            help=f"with a {kind.title()} that shows a trace of each chat",
        )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.direct and arguments.secure:
        parser.error("--secure needs the sidecars that --direct leaves out")
    try:
        asyncio.run(run(arguments))
    except (StackError, OSError) as error:
        sys.exit(f"scripts/run.sh: {error}")


if __name__ == "__main__":
    main()
