from pathlib import Path
from typing import Any

import pytest
import yaml

from daca_shared.settings import ServiceSettings
from scripts.lib.project import ROOT
from scripts.stack import Stack
from scripts.tracing import trace_sidecars


@pytest.mark.parametrize(
    ("variable", "url", "expected"),
    [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "https://collector.example:4318",
            {"otel": {"endpointAddress": "collector.example:4318", "isSecure": True,
                      "protocol": "http"}},
        ),
        (
            "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
            "http://127.0.0.1:9411/api/v2/spans",
            {"zipkin": {"endpointAddress": "http://127.0.0.1:9411/api/v2/spans"}},
        ),
    ],
)  # fmt: skip
def test_sidecars_send_where_the_services_do_and_keep_their_policies(
    environment: pytest.MonkeyPatch, tmp_path: Path, variable: str, url: str, expected: Any
) -> None:
    environment.setenv(variable, url)
    environment.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    environment.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    stack = Stack(ROOT / "dapr.yaml", daprd=Path("daprd"), log_dir=tmp_path)
    command = stack.services["analytics-service-sidecar"].command
    position = command.index("--config") + 1
    command[position] = str(ROOT / "deploy/secure/analytics-service.yaml")
    before = yaml.safe_load(Path(command[position]).read_text())["spec"]
    trace_sidecars(stack, ServiceSettings.from_environment(), tmp_path / "tracing")
    spec = yaml.safe_load(Path(command[position]).read_text())["spec"]
    assert spec == {**before, "tracing": {"samplingRate": "0.250000", **expected}}
