"""What is in deploy/, checked without Docker or a cluster: against the schemas, and against
the services that it has to fit."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from analytics_service.settings import AnalyticsSettings
from chat_service.settings import ChatSettings
from chat_service.turns.stores import _LAST_FLUSH_S
from chat_service.web.http_protocol import _LAST_REQUESTS_S
from daca.analytics.v1 import analytics_pb2
from daca_shared.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes/base"
OVERLAY = DEPLOY / "kubernetes/overlays/example"
# The first with all that is used (autoscaling by one container), and the latest there is.
KUBERNETES = ["1.30", "1.37"]
APPS = ["chat-service", "analytics-service"]
SETTINGS: dict[str, type[ServiceSettings]] = {
    "chat-service": ChatSettings,
    "analytics-service": AnalyticsSettings,
}
PREFIXES = {"chat-service": "CHAT", "analytics-service": "ANALYTICS"}

type Manifest = dict[str, Any]


def documents(path: Path) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def render(folder: Path) -> Iterator[Manifest]:
    """What kustomize makes of a folder that has nothing but resources and a namespace."""
    [kustomization] = documents(folder / "kustomization.yaml")
    assert set(kustomization) == {"apiVersion", "kind", "namespace", "resources"}
    for name in kustomization["resources"]:
        for manifest in documents(folder / name):
            if manifest["kind"] != "Namespace":
                manifest["metadata"]["namespace"] = kustomization["namespace"]
            yield manifest


MANIFESTS = list(render(BASE))
OVERLAY_KUSTOMIZATION = documents(OVERLAY / "kustomization.yaml")[0]
COMPOSE = documents(DEPLOY / "compose/compose.yaml")[0]
SERVICES: dict[str, Manifest] = COMPOSE["services"]


def name_of(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def find(kind: str, name: str) -> Manifest:
    [manifest] = [m for m in MANIFESTS if name_of(m) == f"{kind}/{name}"]
    return manifest


def pod_of(app: str) -> Manifest:
    pod: Manifest = find("Deployment", app)["spec"]["template"]
    return pod


def container_of(app: str) -> Manifest:
    [container] = pod_of(app)["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def environment_of(app: str) -> dict[str, str | None]:
    return {entry["name"]: entry.get("value") for entry in container_of(app)["env"]}


def variables(settings: type[ServiceSettings]) -> set[str]:
    return {str(field.validation_alias) for field in settings.model_fields.values()}


def rpc_paths() -> set[str]:
    services = analytics_pb2.DESCRIPTOR.services_by_name.values()
    ours = {f"/{s.full_name}/{method.name}" for s in services for method in s.methods}
    return ours | {"/grpc.health.v1.Health/Check"}


def seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))


class TestKubernetes:
    @pytest.mark.parametrize("version", KUBERNETES)
    @pytest.mark.parametrize("manifest", MANIFESTS, ids=name_of)
    def test_manifests_fit_their_schema(self, manifest: Manifest, version: str) -> None:
        if not manifest["apiVersion"].startswith("dapr.io/"):
            kubernetes_validate.validate(manifest, version, strict=True)
            return
        # The CRDs are in no package. They let unknown fields pass, and Dapr ignores them.
        fields = {
            "Configuration": {"api", "accessControl", "tracing"},
            "Resiliency": {"policies", "targets"},
        }
        assert manifest["apiVersion"] == "dapr.io/v1alpha1"
        assert set(manifest) <= {"apiVersion", "kind", "metadata", "spec", "scopes"}
        assert set(manifest["spec"]) <= fields[manifest["kind"]]

    def test_a_typing_error_is_seen(self) -> None:
        wrong = find("PodDisruptionBudget", "chat-service")
        wrong = {**wrong, "spec": {**wrong["spec"], "maxUnavailible": 1}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(wrong, KUBERNETES[0], strict=True)

    @pytest.mark.parametrize("app", APPS)
    def test_sidecars_know_their_app(self, app: str) -> None:
        annotations = pod_of(app)["metadata"]["annotations"]
        assert annotations["dapr.io/app-id"] == app
        assert annotations["dapr.io/app-protocol"] == "grpc"
        assert annotations["dapr.io/app-port"] == environment_of(app)[f"{PREFIXES[app]}_GRPC_PORT"]
        assert find("Configuration", annotations["dapr.io/config"])

    @pytest.mark.parametrize("app", APPS)
    def test_variables_and_ports_are_the_services(self, app: str) -> None:
        container, environment = container_of(app), environment_of(app)
        assert set(environment) <= variables(SETTINGS[app])
        ports = {p["name"]: str(p["containerPort"]) for p in container["ports"]}
        assert ports == {
            port: environment[f"{PREFIXES[app]}_{port.upper()}_PORT"] for port in ports
        }
        probes = [container[f"{when}Probe"] for when in ("startup", "readiness", "liveness")]
        assert {str(p["grpc"]["port"]) for p in probes if "grpc" in p} == {ports["grpc"]}

    def test_chat_calls_analytics_by_its_app_id(self) -> None:
        assert environment_of("chat-service")["ANALYTICS_APP_ID"] == "analytics-service"
        [resiliency] = [m for m in MANIFESTS if m["kind"] == "Resiliency"]
        assert set(resiliency["spec"]["targets"]["apps"]) == {"analytics-service"}
        assert set(resiliency["scopes"]) == {"chat-service"}
        [local] = documents(DEPLOY / "local/resources/resiliency.yaml")
        assert resiliency["spec"] == local["spec"]

    def test_only_chat_may_call_and_only_what_exists(self) -> None:
        access = find("Configuration", "analytics-service")["spec"]["accessControl"]
        [policy] = access["policies"]
        assert access["defaultAction"] == policy["defaultAction"] == "deny"
        assert policy["appId"] == "chat-service"
        assert policy["namespace"] == MANIFESTS[1]["metadata"]["namespace"]
        assert {operation["name"] for operation in policy["operations"]} <= rpc_paths()
        # Of which tests/dapr see that each is needed and enough.
        [secure] = documents(DEPLOY / "secure/analytics-service.yaml")
        assert policy["operations"] == secure["spec"]["accessControl"]["policies"][0]["operations"]

    def test_nobody_may_call_chat_through_dapr(self) -> None:
        access = find("Configuration", "chat-service")["spec"]["accessControl"]
        assert access == {"defaultAction": "deny", "trustDomain": "public"}

    @pytest.mark.parametrize("app", APPS)
    def test_pods_end_after_their_requests_and_apps_before_their_sidecars(self, app: str) -> None:
        environment, pod = environment_of(app), pod_of(app)
        grace_s = float(environment["DACA_SHUTDOWN_GRACE_S"] or 0)
        needs_s = float(environment["DACA_DRAIN_S"] or 0) + grace_s
        if app == "chat-service":
            assert grace_s >= float(environment["CHAT_TIMEOUT_S"] or 0)
            needs_s += _LAST_REQUESTS_S + _LAST_FLUSH_S
        annotations = pod["metadata"]["annotations"]
        sidecar_s = seconds(annotations["dapr.io/block-shutdown-duration"])
        ends_s = sidecar_s + seconds(annotations["dapr.io/graceful-shutdown-seconds"])
        assert needs_s < sidecar_s < ends_s <= pod["spec"]["terminationGracePeriodSeconds"]

    @pytest.mark.parametrize("app", APPS)
    def test_pods_may_do_nothing_that_they_need_not(self, app: str) -> None:
        pod, container = pod_of(app), container_of(app)
        assert pod["metadata"]["annotations"]["dapr.io/sidecar-seccomp-profile-type"]
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]

    def test_what_selects_pods_finds_them(self) -> None:
        for app in APPS:
            labels = pod_of(app)["metadata"]["labels"]
            for kind in ("Deployment", "PodDisruptionBudget"):
                selector = find(kind, app)["spec"]["selector"]["matchLabels"]
                assert selector.items() <= labels.items()
            scaler = find("HorizontalPodAutoscaler", app)["spec"]
            assert scaler["scaleTargetRef"]["name"] == app
            [metric] = scaler["metrics"]
            assert metric["containerResource"]["container"] == container_of(app)["name"]
        gateway = find("Service", "chat-service")["spec"]
        assert gateway["selector"].items() <= pod_of("chat-service")["metadata"]["labels"].items()
        assert [port["targetPort"] for port in gateway["ports"]] == ["http"]

    def test_analytics_is_reached_through_sidecars_only(self) -> None:
        [rule] = find("NetworkPolicy", "analytics-service")["spec"]["ingress"]
        [peer] = rule["from"]
        assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "chat-service"}
        assert rule["ports"] == [{"port": 50002}]  # daprd's internal port in Kubernetes
        default = find("NetworkPolicy", "default-deny")["spec"]
        assert default == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def test_secrets_are_references_that_the_overlay_resolves(self) -> None:
        assert not [m for m in MANIFESTS if m["kind"] in {"Secret", "ConfigMap"}]
        made = {generator["name"] for generator in OVERLAY_KUSTOMIZATION["secretGenerator"]}
        unhashed = {
            generator["name"]
            for generator in OVERLAY_KUSTOMIZATION["secretGenerator"]
            if generator.get("options", {}).get("disableNameSuffixHash")
        }
        for app in APPS:
            text = json.dumps(container_of(app))
            used = set(re.findall(r'"secret(?:Key)?Ref": \{"name": "([^"]+)"', text))
            annotations = pod_of(app)["metadata"]["annotations"]
            tokens = {annotations[f"dapr.io/{whose}-token-secret"] for whose in ("api", "app")}
            assert used <= made
            assert tokens <= unhashed  # kustomize rewrites no annotations
        [config] = OVERLAY_KUSTOMIZATION["configMapGenerator"]
        names = {literal.partition("=")[0] for literal in config["literals"]}
        assert names <= variables(ChatSettings)

    def test_secrets_of_the_overlay_stay_out_of_git(self) -> None:
        for secret in (OVERLAY / "secrets/model.env", DEPLOY / "compose/.env"):
            ignored = subprocess.run(["git", "check-ignore", "-q", secret], cwd=ROOT, check=False)
            assert ignored.returncode == 0


class TestCompose:
    APPS = ("chat", "analytics")

    def test_the_file_fits_the_specification(self) -> None:
        # Through JSON: the specification's schema knows no YAML anchors.
        PyCompose.from_json(json.dumps(COMPOSE)).validate()

    @pytest.mark.parametrize("app", APPS)
    def test_sidecars_know_their_app(self, app: str) -> None:
        environment, sidecar = SERVICES[app]["environment"], SERVICES[f"{app}-sidecar"]
        arguments = dict(a.removeprefix("--").split("=", 1) for a in sidecar["command"][1:])
        assert arguments["app-id"] == f"{app}-service"
        assert arguments["app-port"] == environment[f"{app.upper()}_GRPC_PORT"]
        assert arguments["dapr-grpc-port"] == environment["DAPR_GRPC_PORT"]
        assert arguments["dapr-listen-addresses"] == "127.0.0.1"
        assert sidecar["network_mode"] == f"service:{app}"
        assert set(environment) <= variables(SETTINGS[f"{app}-service"])

    @pytest.mark.parametrize("app", APPS)
    def test_apps_end_before_their_sidecars_and_both_in_time(self, app: str) -> None:
        settings = SETTINGS[f"{app}-service"].model_fields
        needs_s = settings["drain_s"].default + settings["shutdown_grace_s"].default
        needs_s += _LAST_REQUESTS_S + _LAST_FLUSH_S if app == "chat" else 0
        sidecar = SERVICES[f"{app}-sidecar"]
        blocks_s = seconds(sidecar["command"][-1].partition("=")[2])
        assert needs_s < seconds(SERVICES[app]["stop_grace_period"])
        assert needs_s < blocks_s < seconds(sidecar["stop_grace_period"])

    def test_health_checks_run_with_what_the_image_has(self) -> None:
        for app in self.APPS:
            compile(SERVICES[app]["healthcheck"]["test"][3], app, "exec")

    def test_passwords_come_from_outside(self) -> None:
        for name, service in SERVICES.items():
            for variable, value in (service.get("environment") or {}).items():
                if "PASSWORD" in variable or "@" in value:
                    assert ":?" in value, f"{name}: {variable}"

    def test_ports_are_open_on_this_machine_only(self) -> None:
        ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
        assert all(port.startswith("127.0.0.1:") for port in ports)

    @pytest.mark.parametrize("name", SERVICES)
    def test_containers_may_do_nothing_that_they_need_not(self, name: str) -> None:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_what_is_mounted_is_there(self, name: str) -> None:
        for source, _, _ in (v.partition(":") for v in SERVICES[name].get("volumes", [])):
            there = (DEPLOY / "compose" / source).exists() if "/" in source else None
            assert there is True or source in COMPOSE["volumes"]


class TestImages:
    DOCKERFILE = (DEPLOY / "Dockerfile").read_text()

    def test_hadolint_finds_nothing(self) -> None:
        program = Path(sys.executable).with_name("hadolint")
        found = subprocess.run(
            [program, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
        )
        assert (found.returncode, found.stdout) == (0, "")

    def test_images_have_a_version(self) -> None:
        built = re.findall(r"^FROM (\S+)", self.DOCKERFILE, re.MULTILINE)
        images = [*built, *(service["image"] for service in SERVICES.values())]
        for image in images:
            _, colon, tag = image.partition(":")
            assert colon, image
            assert re.search(r"\d", tag), image

    def test_versions_are_those_that_the_tests_run_with(self) -> None:
        env, dapr = (
            (ROOT / "scripts" / name).read_text() for name in ("lib/env.sh", "install_dapr.sh")
        )
        assert f"uv:{re.findall(r'^UV_VERSION=(.+)', env, re.MULTILINE)[0]} " in self.DOCKERFILE
        daprd = f"daprio/daprd:{re.findall(r'^DAPR_VERSION=(.+)', dapr, re.MULTILINE)[0]}"
        assert {SERVICES[f"{app}-sidecar"]["image"] for app in TestCompose.APPS} == {daprd}
        python = (ROOT / ".python-version").read_text().strip()
        assert self.DOCKERFILE.count(f"FROM python:{python}-slim-") == 2

    def test_the_image_is_nobodys_and_gets_its_signals(self) -> None:
        final = self.DOCKERFILE.rpartition("\nFROM ")[2]
        assert re.findall(r"^USER (.+)", final, re.MULTILINE) == ["10001:10001"]
        assert 'ENTRYPOINT ["python"]' in final
        assert not re.search(r"^ADD |apt-get|pip install", self.DOCKERFILE, re.MULTILINE)
        pod = pod_of("chat-service")["spec"]["securityContext"]
        assert (pod["runAsUser"], pod["runAsGroup"]) == (10001, 10001)

    def test_every_package_gets_into_the_image_and_nothing_else(self) -> None:
        pyproject = (ROOT / "pyproject.toml").read_text()
        [listed] = re.findall(r"^packages = (\[.+\])", pyproject, re.MULTILINE)
        folders = {package.partition("/")[0] for package in json.loads(listed)}
        copied = set(re.findall(r"^COPY (\w+) \w+$", self.DOCKERFILE, re.MULTILINE))
        ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        let_in = {line[1:] for line in ignore if line.startswith("!")}
        assert copied == folders
        assert let_in == folders | {"pyproject.toml", "uv.lock", "README.md", "LICENSE"}
        assert ignore[1] == "*"
