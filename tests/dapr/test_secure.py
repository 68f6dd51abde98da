"""`scripts/run.sh --secure`: who may call what, and what can be seen on the wire."""

import asyncio
import os
import signal
import ssl
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
import yaml
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2
from pydantic import SecretStr

from daca.analytics.v1 import analytics_pb2 as pb
from daca.analytics.v1 import analytics_pb2_grpc as pb_grpc
from daca_shared.calls.server import GrpcServer
from lab.machine import free_port, tool
from lab.stack import eventually, http, render_run_file
from scripts.lib.probes import is_free
from scripts.service import Service
from scripts.stack import Stack
from tests.commands import READY, ask, command, output_of, ports_of, read_until
from tests.dapr.secure_stack import (
    SecureStack,
    certificate_authority,
    render_configurations,
    secure_stack,
    set_option,
    started,
)
from tests.dapr.test_proxied_calls import Recording

OK = StatusCode.OK
pytestmark = pytest.mark.asyncio(loop_scope="session")

ANALYTICS = "/daca.analytics.v1.AnalyticsService"
ALICE = pb.GetAnalyticsRequest(user_id="alice").SerializeToString()
MESSAGE = pb.SentMessage(message_id=str(uuid4()), user_id="carol")
MESSAGE.sent_time.GetCurrentTime()
# Each with a request that its service would accept.
ALLOWED = {
    f"{ANALYTICS}/GetAnalytics": ALICE,
    f"{ANALYTICS}/ListActivity": pb.ListActivityRequest(user_id="alice").SerializeToString(),
    f"{ANALYTICS}/RecordMessages": pb.RecordMessagesRequest(messages=[MESSAGE]).SerializeToString(),
    "/grpc.health.v1.Health/Check": health_pb2.HealthCheckRequest().SerializeToString(),
}
DENIED = {
    f"{ANALYTICS}/getanalytics": ALICE,
    f"{ANALYTICS}/None": b"",
    "/grpc.health.v1.Health/Watch": b"",
    "/daca.chat.v1.ChatService/Chat": b"",
}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def secured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecureStack]:
    async with secure_stack(tmp_path_factory.mktemp("secure")) as system:
        yield system


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def intruder(secured: SecureStack) -> AsyncIterator[Service]:
    """A sidecar with a valid certificate for an app id that no policy allows."""
    app_id = f"intruder-{uuid4().hex[:8]}"
    sidecar = secured.other_sidecar(app_id, secured.security.identity(app_id))
    async with started(sidecar) as running:
        yield running


async def outcome(
    channel: aio.Channel, path: str, request: bytes, *metadata: tuple[str, str]
) -> tuple[StatusCode, str]:
    call: Any = channel.unary_unary(path)
    try:
        await call(request, metadata=metadata, timeout=5)
    except aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return StatusCode.OK, ""


async def through_chats_sidecar(
    secured: SecureStack, path: str, request: bytes
) -> tuple[StatusCode, str]:
    async with secured.channel(f"{secured.chat}-sidecar") as channel:
        return await outcome(
            channel,
            path,
            request,
            ("dapr-app-id", secured.analytics),
            ("dapr-api-token", secured.token(secured.chat, "DAPR_API_TOKEN")),
        )


async def from_elsewhere(
    secured: SecureStack, sidecar: Service, path: str, request: bytes, *more: tuple[str, str]
) -> tuple[StatusCode, str]:
    async with aio.insecure_channel(f"127.0.0.1:{sidecar.ports['gRPC']}") as channel:
        metadata = (("dapr-app-id", secured.analytics), *more)
        return await outcome(channel, path, request, *metadata)


async def test_a_chat_knows_the_count_and_is_counted(secured: SecureStack) -> None:
    status, body = await secured.chat_with("alice")
    assert (status, body["message_count"]) == (200, 5)
    await eventually(lambda: secured.count("alice"), 6)


async def test_what_passes_between_the_sidecars_is_tls(secured: SecureStack) -> None:
    user_id = f"somebody-{uuid4()}"
    before = sum(map(len, secured.wiretap.sent))
    assert (await secured.chat_with(user_id))[0] == 200
    assert sum(map(len, secured.wiretap.sent)) > before
    for seen in secured.wiretap.sent + secured.wiretap.answered:
        assert seen[:2] == b"\x16\x03"  # a TLS handshake record
        assert user_id.encode() not in seen


async def test_the_callees_sidecar_has_a_certificate_in_its_name(secured: SecureStack) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", secured.wiretap.port, ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    assert f"spiffe://public/ns/default/{secured.analytics}".encode() in certificate


@pytest.mark.parametrize("path", ALLOWED)
async def test_chat_may_call_what_it_needs(secured: SecureStack, path: str) -> None:
    assert (await through_chats_sidecar(secured, path, ALLOWED[path]))[0] is StatusCode.OK


@pytest.mark.parametrize("path", DENIED)
async def test_chat_may_call_nothing_else(secured: SecureStack, path: str) -> None:
    code, details = await through_chats_sidecar(secured, path, DENIED[path])
    assert code is StatusCode.PERMISSION_DENIED
    assert f"/ns/default/{secured.chat}" in details


async def test_analytics_may_not_call_chat(secured: SecureStack) -> None:
    async with secured.channel(f"{secured.analytics}-sidecar") as channel:
        code, _ = await outcome(
            channel,
            "/grpc.health.v1.Health/Check",
            b"",
            ("dapr-app-id", secured.chat),
            ("dapr-api-token", secured.token(secured.analytics, "DAPR_API_TOKEN")),
        )
    assert code is StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("path", [*ALLOWED, *DENIED])
async def test_an_intruder_may_call_nothing(
    secured: SecureStack, intruder: Service, path: str
) -> None:
    code, details = await from_elsewhere(secured, intruder, path, b"")
    assert code is StatusCode.PERMISSION_DENIED
    assert f"/ns/default/{intruder.name}" in details


async def test_an_intruder_that_claims_to_be_chat_is_still_itself(
    secured: SecureStack, intruder: Service
) -> None:
    claim = ("dapr-caller-app-id", secured.chat)
    code, details = await from_elsewhere(
        secured, intruder, f"{ANALYTICS}/GetAnalytics", ALICE, claim
    )
    assert code is StatusCode.PERMISSION_DENIED
    assert f"/ns/default/{intruder.name}" in details


async def test_an_intruder_may_not_invoke_over_http(
    secured: SecureStack, intruder: Service
) -> None:
    url = f"http://127.0.0.1:{intruder.ports['HTTP']}/v1.0/invoke/{secured.analytics}"
    status, body = await asyncio.to_thread(http, "GET", f"{url}/method/analytics/alice")
    assert status == 403, body


async def test_chat_may_not_invoke_over_http_even_if_its_sidecar_lets_it(
    secured: SecureStack,
) -> None:
    twin = secured.other_sidecar(secured.chat, secured.security.identity(secured.chat))
    async with started(twin):
        assert (await from_elsewhere(secured, twin, f"{ANALYTICS}/GetAnalytics", ALICE))[0] is OK
        url = f"http://127.0.0.1:{twin.ports['HTTP']}/v1.0/invoke/{secured.analytics}"
        status, body = await asyncio.to_thread(http, "GET", f"{url}/method/analytics/alice")
    assert status == 403, body


async def test_a_sidecar_without_mtls_gets_nowhere(secured: SecureStack) -> None:
    plain = secured.other_sidecar(f"plain-{uuid4().hex[:8]}", {}, mtls=False)
    async with started(plain):
        code, _ = await from_elsewhere(secured, plain, f"{ANALYTICS}/GetAnalytics", ALICE)
    assert code is StatusCode.UNAVAILABLE
    # The call came that far, and the wiretap does see unencrypted bytes.
    assert secured.wiretap.sent[-1].startswith(b"PRI * HTTP/2.0")


@pytest.mark.parametrize("name", ["a #b", "c: d", 'e"f\\g'])
async def test_certificates_are_made_in_any_folder(tmp_path: Path, name: str) -> None:
    stack = Stack(render_run_file(tmp_path), daprd=tool("DAPRD"), log_dir=tmp_path / "logs")
    config_dir = render_configurations(tmp_path / "secure", *(app.name for app in stack.apps))
    await certificate_authority(config_dir, tmp_path / name).protect(stack)
    assert (tmp_path / name / "secure/certificates/ca.crt").exists()


async def test_a_sidecar_of_another_certificate_authority_gets_nowhere(
    secured: SecureStack, tmp_path: Path
) -> None:
    stack = Stack(render_run_file(tmp_path), daprd=tool("DAPRD"), log_dir=tmp_path / "data/logs")
    config_dir = render_configurations(tmp_path / "secure", *(app.name for app in stack.apps))
    authority = certificate_authority(config_dir, tmp_path / "data")
    await authority.protect(stack)
    twin = secured.other_sidecar(secured.chat, authority.identity(secured.chat))
    address = f"127.0.0.1:{authority.sentry.ports['certificates']}"
    set_option(twin.command, "--sentry-address", address)
    await authority.sentry.start()
    try:
        async with started(twin):
            code, _ = await from_elsewhere(secured, twin, f"{ANALYTICS}/GetAnalytics", ALICE)
    finally:
        await authority.sentry.stop()
    assert code is StatusCode.UNAVAILABLE


@pytest.mark.parametrize("token", ["none", "another app's"])
async def test_sentry_gives_nobody_a_certificate_in_chats_name(
    secured: SecureStack, token: str
) -> None:
    identity = secured.security.identity("somebody")
    if token == "none":
        del identity["DAPR_SENTRY_TOKEN_FILE"]
    twin = secured.other_sidecar(secured.chat, identity)
    await twin.start()
    assert twin.process is not None
    try:
        assert await asyncio.wait_for(twin.process.wait(), 15) != 0
    finally:
        await twin.stop()
    assert "error from sentry SignCertificate" in twin.last_words(), twin.last_words()


@pytest.mark.parametrize("token", [None, "wrong"])
async def test_a_sidecar_requires_its_token(secured: SecureStack, token: str | None) -> None:
    shown = [("dapr-api-token", token)] if token else []
    async with secured.channel(f"{secured.chat}-sidecar") as channel:
        metadata = (("dapr-app-id", secured.analytics), *shown)
        code, _ = await outcome(channel, f"{ANALYTICS}/GetAnalytics", ALICE, *metadata)
    assert code is StatusCode.UNAUTHENTICATED
    assert await ask_sidecar(secured, "GET", "/v1.0/metadata", token) == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1.0/state/store/key"),
        ("GET", "/v1.0/secrets/store/key"),
        ("POST", "/v1.0/bindings/some"),
        ("POST", "/v1.0/shutdown"),
        ("GET", "/v1.0/invoke/some/method/any"),
    ],
)
async def test_a_sidecars_other_apis_are_off(secured: SecureStack, method: str, path: str) -> None:
    token = secured.token(secured.chat, "DAPR_API_TOKEN")
    assert await ask_sidecar(secured, "GET", "/v1.0/metadata", token) == 200
    assert await ask_sidecar(secured, method, path, token) == 404


@pytest.mark.parametrize("method", ["GetState", "PublishEvent", "GetSecret", "InvokeService"])
async def test_a_sidecars_other_apis_are_off_over_grpc(secured: SecureStack, method: str) -> None:
    token = ("dapr-api-token", secured.token(secured.chat, "DAPR_API_TOKEN"))
    async with secured.channel(f"{secured.chat}-sidecar") as channel:
        code, _ = await outcome(channel, f"/dapr.proto.runtime.v1.Dapr/{method}", b"", token)
    assert code is StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("app", ["analytics", "chat"])
async def test_an_app_requires_its_own_token(secured: SecureStack, app: str) -> None:
    apps = {"analytics": secured.analytics, "chat": secured.chat}
    name, other = apps.pop(app), apps.popitem()[1]
    # Everything but the health check requires the token, even reflection.
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    async with secured.channel(name) as channel:
        for wrong in ("", "wrong", secured.token(other, "APP_API_TOKEN")):
            code, _ = await outcome(channel, path, b"", ("dapr-api-token", wrong))
            assert code is StatusCode.UNAUTHENTICATED
        assert (await outcome(channel, path, b""))[0] is StatusCode.UNAUTHENTICATED
        right = ("dapr-api-token", secured.token(name, "APP_API_TOKEN"))
        assert (await outcome(channel, path, b"", right))[0] is OK
        assert (await outcome(channel, "/grpc.health.v1.Health/Check", b""))[0] is OK


async def test_an_app_sees_its_own_token_and_not_its_callers(secured: SecureStack) -> None:
    analytics = secured.stack.services[secured.analytics]
    app_token = secured.token(secured.analytics, "APP_API_TOKEN")
    await analytics.stop()
    recording, server = Recording(), GrpcServer(app_api_token=SecretStr(app_token))
    server.add(pb_grpc.add_AnalyticsServiceServicer_to_server, recording)
    await server.start("127.0.0.1", analytics.ports["gRPC"], "")

    async def proxied() -> StatusCode:
        return (await through_chats_sidecar(secured, f"{ANALYTICS}/GetAnalytics", ALICE))[0]

    try:
        await eventually(proxied, OK)
    finally:
        await server.stop(0)
        await analytics.start()
        await secured.wait_until_ready()
    assert recording.metadata["dapr-api-token"] == app_token
    assert secured.token(secured.chat, "DAPR_API_TOKEN") not in recording.metadata.values()


async def test_chats_go_on_without_sentry_and_a_sidecar_can_restart_after_it(
    secured: SecureStack,
) -> None:
    sidecar = secured.stack.services[f"{secured.chat}-sidecar"]
    await secured.security.sentry.stop(signal.SIGKILL)
    try:
        status, body = await secured.chat_with("bob")
        assert (status, body["message_count"]) == (200, 3)
    finally:
        await secured.security.sentry.start()
    await sidecar.stop()
    await sidecar.start()
    await secured.wait_until_ready()


async def test_only_their_owner_can_read_the_secrets(secured: SecureStack) -> None:
    folder = secured.folder / "data/secure"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_no_secret_is_on_a_command_line_or_in_a_log(secured: SecureStack) -> None:
    secrets = {
        secured.token(app, name)
        for app in (secured.analytics, secured.chat)
        for name in ("DAPR_API_TOKEN", "APP_API_TOKEN")
    }
    assert len(secrets) == 4
    for service in secured.stack.services.values():
        shown = " ".join(service.command) + service.log_path.read_text()
        assert not [secret for secret in secrets if secret in shown], service.name


async def test_everything_listens_on_loopback_only_but_for_sentrys_health(
    secured: SecureStack,
) -> None:
    pids = {str(s.process.pid): s for s in secured.stack.services.values() if s.process}
    beyond = set()
    for line in (await output_of("ss", "-Hlntup")).splitlines():
        address, pid = line.split()[4], line.partition("pid=")[2].partition(",")[0]
        host, _, port = address.rpartition(":")
        if pid in pids and not host.removeprefix("[::ffff:").startswith("127."):
            beyond.add((pids[pid].name, int(port)))
    # sentry 1.18 can't bind this port to an address.
    assert beyond == {("sentry", secured.security.sentry.ports["health"])}


async def test_run_sh_secure_serves_those_with_a_token_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    run_file = render_run_file(tmp_path)
    analytics, chat = (app["appID"] for app in yaml.safe_load(run_file.read_text())["apps"])
    config_dir = render_configurations(tmp_path / "secure", analytics, chat)
    ports = ports_of(run_file) | {"sentry": free_port(), "sentry's health": free_port()}
    environment = {
        "SENTRY_PORT": str(ports["sentry"]),
        "SENTRY_HEALTH_PORT": str(ports["sentry's health"]),
        "APP_API_TOKEN": 'it\'s "given"',
        "DACA_DATA_DIR": str(tmp_path / "the data"),
        "PATH": f"{tool('GRPCURL').parent}:{os.environ['PATH']}",
    }
    settings = (f"{name}={value}" for name, value in environment.items())
    start: list[str | Path] = ["env", *settings, "scripts/run.sh"]
    start += ["--run-file", run_file, "--secure", config_dir]
    async with command(*start, folder=tmp_path) as process:
        shown = await read_until(process, READY)
        assert "mTLS" in shown
        assert await ask(ports["http"]) == 5
        # Exactly the command that is shown.
        typed = "(. " + shown.partition("  (. ")[2].partition("list)")[0] + "list)"
        path = {"PATH": environment["PATH"]}
        assert "daca.chat.v1.ChatService" in await output_of("bash", "-c", typed, **path)

        before = contents_of(tmp_path / "the data/secure")
        async with command(*start, folder=tmp_path) as second:
            said, _ = await second.communicate()
        assert second.returncode == 1
        assert f"data is in use by another scripts/run.sh, process {process.pid}" in said.decode()
        assert contents_of(tmp_path / "the data/secure") == before

        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 60) == 0
    assert [use for use, port in ports.items() if not is_free("127.0.0.1", port)] == []


def contents_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def ask_sidecar(secured: SecureStack, method: str, path: str, token: str | None) -> int:
    port = secured.sidecar_port(secured.chat, "HTTP")
    headers = {"dapr-api-token": token} if token else {}
    async with httpx2.AsyncClient() as client:
        answer = await client.request(method, f"http://127.0.0.1:{port}{path}", headers=headers)
    return answer.status_code
