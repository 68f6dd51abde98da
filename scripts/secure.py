"""What `scripts/run.sh --secure` adds: certificates, mTLS, access control and tokens."""

import base64
import json
import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

import jwt

from scripts.lib.environments import share
from scripts.lib.probes import listens
from scripts.lib.project import StackError
from scripts.lib.run_file import set_configuration
from scripts.service import Service
from scripts.stack import Stack

_TRUST_DOMAIN = "daca"
# The defaults of sentry and daprd outside Kubernetes.
_NAMESPACE, _APP_TRUST_DOMAIN = "default", "public"
_AUDIENCE = f"spiffe://{_TRUST_DOMAIN}/ns/{_NAMESPACE}/dapr-sentry"
_CERTIFICATES = ("ca.crt", "issuer.crt", "issuer.key")
_JWKS, _KEY_ID = "jwks.json", "daca"
_TOKENS = ("DAPR_API_TOKEN", "APP_API_TOKEN")
_SENTRY_START_TIMEOUT_S = 10.0


class Security:
    """Our own certificate authority, and what each sidecar and app needs from it. `config_dir` has
    `sentry.yaml`, and each app's Configuration under the app's id. The certificates are kept over
    restarts; keys and tokens are new with every start."""

    def __init__(
        self,
        sentry: Path,
        *,
        config_dir: Path,
        data_dir: Path,
        port: int,
        health_port: int,
        environment: Mapping[str, str],
    ) -> None:
        self._port = port
        self._config_dir = config_dir
        self._folder = data_dir / "secure"
        self._key = secrets.token_bytes(32)
        self._environment = environment
        options = {
            "config": self._config_dir / "sentry.yaml",
            "issuer-credentials": self._folder / "certificates",
            "trust-domain": _TRUST_DOMAIN,
            "listen-address": "127.0.0.1",
            "port": port,
            # Not needed, but sentry 1.18 can't turn it off, or bind it to an address. It tells
            # everybody who asks whether sentry is healthy, and nothing else.
            "healthz-port": health_port,
            "enable-metrics": "false",
            "log-level": "warn",
        }
        self.sentry = Service(
            "sentry",
            [str(sentry), *(f"--{name}={value}" for name, value in options.items())],
            share(environment, "sentry")
            # Quoted, as it becomes a part of sentry.yaml before that is read as YAML.
            | {"NAMESPACE": _NAMESPACE, "DACA_SENTRY_JWKS": _quoted(self._folder / _JWKS)},
            {"certificates": port, "health": health_port},
            data_dir / "logs" / "sentry.log",
        )

    async def protect(self, stack: Stack) -> None:
        """Give every sidecar and app of the stack what it needs, and add sentry to the stack.
        Raises `StackError` when an app has no Configuration, or sentry can't make certificates."""
        stack.services = {self.sentry.name: self.sentry, **stack.services}
        # Checked first, as the files written below may belong to a stack that is running.
        stack.check_ports()
        for path in (self._folder, self._folder / "certificates"):
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(0o700)
        key = {"kty": "oct", "alg": "HS256", "kid": _KEY_ID, "k": _base64url(self._key)}
        _write_secret(self._folder / _JWKS, json.dumps({"keys": [key]}))
        await self._ensure_certificates()
        for sidecar in stack.services.values():
            if sidecar.is_sidecar:
                app_id = sidecar.name.removesuffix("-sidecar")
                tokens = self._tokens(app_id)
                if app_id in stack.services:
                    stack.services[app_id].environment |= tokens
                sidecar.environment |= tokens | self.identity(app_id)
                self._require_mtls(sidecar, self._config_dir / f"{app_id}.yaml")

    def token_help(self, app_id: str, address: str) -> str:
        """How to call an app that requires a token, without the token on the command line."""
        file = shlex.quote(str(self._token_file(app_id)))
        return f"""
gRPC callers have to show a token. {file} has it, and the sidecar's:

  (. {file}; grpcurl -plaintext -expand-headers \\
    -H 'dapr-api-token: ${{APP_API_TOKEN}}' {address} list)
"""

    def _token_file(self, app_id: str) -> Path:
        return self._folder / f"{app_id}.env"

    def identity(self, app_id: str) -> dict[str, str]:
        """The environment with which a daprd gets a certificate for this app."""
        subject = f"spiffe://{_APP_TRUST_DOMAIN}/ns/{_NAMESPACE}/{app_id}"
        claims = {"aud": _AUDIENCE, "sub": subject}
        path = self._folder / f"{app_id}.jwt"
        _write_secret(path, jwt.encode(claims, self._key, "HS256", {"kid": _KEY_ID}))
        return {
            "NAMESPACE": _NAMESPACE,
            "DAPR_TRUST_ANCHORS": (self._folder / "certificates/ca.crt").read_text(),
            "DAPR_SENTRY_TOKEN_FILE": str(path),
        }

    def _require_mtls(self, sidecar: Service, configuration: Path) -> None:
        if not configuration.exists():
            raise StackError(f"--secure: {configuration} must say who may call that app")
        command = sidecar.command
        set_configuration(command, configuration)
        command += ["--enable-mtls", "--sentry-address", f"127.0.0.1:{self._port}"]
        command += ["--control-plane-trust-domain", _TRUST_DOMAIN]

    def _tokens(self, app_id: str) -> dict[str, str]:
        tokens = {
            name: self._environment.get(name) or secrets.token_urlsafe(32) for name in _TOKENS
        }
        lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in tokens.items())
        _write_secret(self._token_file(app_id), lines)
        return tokens

    async def _ensure_certificates(self) -> None:
        # A sentry that has just made certificates restarts itself twice, as it sees new files.
        # So one sentry makes the certificates, and another one serves.
        files = [self._folder / "certificates" / name for name in _CERTIFICATES]
        if all(file.exists() for file in files):
            return
        self.sentry.log.begin()
        await self.sentry.start()
        try:
            await self.sentry.until(
                lambda: listens("127.0.0.1", self._port),
                _SENTRY_START_TIMEOUT_S,
                "sentry made no certificates",
            )
        finally:
            await self.sentry.stop()


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
