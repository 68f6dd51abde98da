"""The manifests in deploy/kubernetes/, checked without a cluster, against the schemas and the
services."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from chat_service.settings import ChatSettings
from daca.analytics.v1 import analytics_pb2
from scripts.lib.project import ROOT
from tests.unit.deployed import (
    DEPLOY,
    MANIFESTS,
    OVERLAY,
    OVERLAY_KUSTOMIZATION,
    SETTINGS,
    Manifest,
    container_of,
    documents,
    environment_of,
    find,
    name_of,
    outbox_send_s,
    pod_of,
    seconds,
    variables,
)

TOLD = (ROOT / "docs/deployment.md").read_text()
APPS = ["chat-service", "analytics-service"]
PREFIXES = {"chat-service": "CHAT", "analytics-service": "ANALYTICS"}
# The first version with all used features (autoscaling by one container), and the latest.
KUBERNETES = ["1.30", "1.37"]


def rpc_paths() -> set[str]:
    services = analytics_pb2.DESCRIPTOR.services_by_name.values()
    ours = {f"/{s.full_name}/{method.name}" for s in services for method in s.methods}
    return ours | {"/grpc.health.v1.Health/Check"}


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=name_of)
def test_manifests_fit_their_schema(manifest: Manifest, version: str) -> None:
    if not manifest["apiVersion"].startswith("dapr.io/"):
        kubernetes_validate.validate(manifest, version, strict=True)
        return
    # No package has the CRDs. They allow unknown fields, which Dapr ignores.
    fields = {
        "Configuration": {"api", "accessControl", "metrics", "tracing"},
        "Resiliency": {"policies", "targets"},
    }
    assert manifest["apiVersion"] == "dapr.io/v1alpha1"
    assert set(manifest) <= {"apiVersion", "kind", "metadata", "spec", "scopes"}
    assert set(manifest["spec"]) <= fields[manifest["kind"]]


def test_a_misspelt_field_is_detected() -> None:
    wrong = find("PodDisruptionBudget", "chat-service")
    wrong = {**wrong, "spec": {**wrong["spec"], "maxUnavailible": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[0], strict=True)


@pytest.mark.parametrize("app", APPS)
def test_sidecars_know_their_app(app: str) -> None:
    annotations = pod_of(app)["metadata"]["annotations"]
    assert annotations["dapr.io/app-id"] == app
    assert annotations["dapr.io/app-protocol"] == "grpc"
    assert annotations["dapr.io/app-port"] == environment_of(app)[f"{PREFIXES[app]}_GRPC_PORT"]
    assert find("Configuration", annotations["dapr.io/config"])


@pytest.mark.parametrize("app", APPS)
def test_variables_and_ports_are_the_services(app: str) -> None:
    container, environment = container_of(app), environment_of(app)
    assert set(environment) <= variables(SETTINGS[app])
    ports = {p["name"]: str(p["containerPort"]) for p in container["ports"]}
    assert ports == {port: environment[f"{PREFIXES[app]}_{port.upper()}_PORT"] for port in ports}
    probes = [container[f"{when}Probe"] for when in ("startup", "readiness", "liveness")]
    assert {str(p["grpc"]["port"]) for p in probes if "grpc" in p} == {ports["grpc"]}


def test_chat_calls_analytics_by_its_app_id() -> None:
    assert environment_of("chat-service")["ANALYTICS_APP_ID"] == "analytics-service"
    [resiliency] = [m for m in MANIFESTS if m["kind"] == "Resiliency"]
    assert set(resiliency["spec"]["targets"]["apps"]) == {"analytics-service"}
    assert set(resiliency["scopes"]) == {"chat-service"}
    [local] = documents(DEPLOY / "local/resources/resiliency.yaml")
    # There `invoke` is off, so it needs no restriction.
    del local["spec"]["policies"]["timeouts"], local["spec"]["targets"]["apps"]["chat-service"]
    assert resiliency["spec"] == local["spec"]


def test_the_document_has_the_connections_of_all_pods() -> None:
    pods = sum(find("HorizontalPodAutoscaler", app)["spec"]["maxReplicas"] for app in APPS)
    # In an upgrade, `maxSurge` doesn't count the pods that end: at worst all of before.
    for connections in (8 * pods, 2 * 8 * pods):
        assert f" {connections}" in TOLD.replace("\n", " ")


def test_sidecars_are_told_where_to_send_their_spans() -> None:
    [tracing] = re.findall(r"`tracing: (\{.*\})`", TOLD)
    told = yaml.safe_load(tracing)
    assert (told["samplingRate"], set(told["otel"])) == (
        "1", {"endpointAddress", "isSecure", "protocol"},
    )  # fmt: skip


def test_only_chat_may_call_and_only_what_exists() -> None:
    access = find("Configuration", "analytics-service")["spec"]["accessControl"]
    [policy] = access["policies"]
    assert access["defaultAction"] == policy["defaultAction"] == "deny"
    assert policy["appId"] == "chat-service"
    assert policy["namespace"] == MANIFESTS[1]["metadata"]["namespace"]
    assert {operation["name"] for operation in policy["operations"]} <= rpc_paths()
    # tests/dapr check that all these are needed, and suffice.
    [secure] = documents(DEPLOY / "secure/analytics-service.yaml")
    assert policy["operations"] == secure["spec"]["accessControl"]["policies"][0]["operations"]


def test_nobody_may_call_chat_through_dapr() -> None:
    access = find("Configuration", "chat-service")["spec"]["accessControl"]
    assert access == {"defaultAction": "deny", "trustDomain": "public"}


@pytest.mark.parametrize("app", APPS)
def test_pods_end_after_their_requests_and_apps_before_their_sidecars(app: str) -> None:
    environment, pod = environment_of(app), pod_of(app)
    grace_s = float(environment["DACA_SHUTDOWN_GRACE_S"] or 0)
    needs_s = float(environment["DACA_DRAIN_S"] or 0) + grace_s
    if app == "chat-service":
        assert grace_s >= float(environment["CHAT_TIMEOUT_S"] or 0)
        needs_s += outbox_send_s(app)
    annotations = pod["metadata"]["annotations"]
    sidecar_s = seconds(annotations["dapr.io/block-shutdown-duration"])
    ends_s = sidecar_s + seconds(annotations["dapr.io/graceful-shutdown-seconds"])
    assert needs_s < sidecar_s < ends_s <= pod["spec"]["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("app", APPS)
def test_pods_have_only_the_rights_that_they_need(app: str) -> None:
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


def test_selectors_match_pods() -> None:
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


def test_analytics_is_reached_through_sidecars_only() -> None:
    [rule] = find("NetworkPolicy", "analytics-service")["spec"]["ingress"]
    [peer] = rule["from"]
    assert peer["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "chat-service"}
    assert rule["ports"] == [{"port": 50002}]  # daprd's internal port in Kubernetes
    default = find("NetworkPolicy", "default-deny")["spec"]
    assert default == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_secrets_are_references_that_the_overlay_resolves() -> None:
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
        assert tokens <= unhashed  # kustomize doesn't rewrite annotations
    [config] = OVERLAY_KUSTOMIZATION["configMapGenerator"]
    names = {literal.partition("=")[0] for literal in config["literals"]}
    assert names <= variables(ChatSettings)


def test_without_a_program_for_it_no_token_is_made(tmp_path: Path) -> None:
    script = shutil.copy(OVERLAY / "make-secrets.sh", tmp_path)
    for name in ("dirname", "mkdir"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    made = subprocess.run(["/bin/bash", script], env={"PATH": str(tmp_path)}, check=False)
    assert (made.returncode, [*(tmp_path / "secrets").iterdir()]) == (127, [])


def test_secrets_of_the_overlay_stay_out_of_git() -> None:
    for secret in (OVERLAY / "secrets/model.env", DEPLOY / "compose/.env"):
        ignored = subprocess.run(["git", "check-ignore", "-q", secret], cwd=ROOT, check=False)
        assert ignored.returncode == 0
