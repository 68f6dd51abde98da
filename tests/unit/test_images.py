"""The image and its versions, checked without Docker."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from scripts.lib.project import ROOT
from tests.unit.deployed import DEPLOY, OVERLAY_KUSTOMIZATION, SERVICES, container_of, pod_of

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def test_hadolint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("hadolint")
    found = subprocess.run(
        [program, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_images_have_a_version() -> None:
    built = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    images = [*built, *(service["image"] for service in SERVICES.values())]
    for image in images:
        _, colon, tag = image.partition(":")
        assert colon, image
        assert re.search(r"\d", tag), image


def test_versions_match_those_in_the_tests() -> None:
    env, dapr = (
        (ROOT / "scripts" / name).read_text() for name in ("lib/env.sh", "install_dapr.sh")
    )
    assert f"uv:{re.findall(r'^UV_VERSION=(.+)', env, re.MULTILINE)[0]} " in DOCKERFILE
    daprd = f"daprio/daprd:{re.findall(r'^DAPR_VERSION=(.+)', dapr, re.MULTILINE)[0]}"
    assert {SERVICES[f"{app}-sidecar"]["image"] for app in ("chat", "analytics")} == {daprd}
    python = (ROOT / ".python-version").read_text().strip()
    assert DOCKERFILE.count(f"FROM python:{python}-slim-") == 2


def test_the_deployed_image_is_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for app in ("chat", "analytics"):
        images = SERVICES[app]["image"], container_of(f"{app}-service")["image"]
        assert set(images) == {f"daca-chat:{version}"}
    assert [image["newTag"] for image in OVERLAY_KUSTOMIZATION["images"]] == [version]


def test_only_a_change_of_the_dependencies_installs_them_again() -> None:
    before, _, _ = DOCKERFILE.partition("RUN uv sync")
    copied = re.findall(r"^COPY (?!--from)(.+) \./$", before, re.MULTILINE)
    assert copied == ["pyproject.toml uv.lock"]


def test_the_image_runs_without_root_and_gets_signals() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (.+)", final, re.MULTILINE) == ["10001:10001"]
    assert 'ENTRYPOINT ["python"]' in final
    assert not re.search(r"^ADD |apt-get|pip install", DOCKERFILE, re.MULTILINE)
    pod = pod_of("chat-service")["spec"]["securityContext"]
    assert (pod["runAsUser"], pod["runAsGroup"]) == (10001, 10001)


def test_every_package_gets_into_the_image_and_nothing_else() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    [listed] = re.findall(r"^packages = (\[.+\])", pyproject, re.MULTILINE)
    folders = {package.partition("/")[0] for package in json.loads(listed)}
    copied = set(re.findall(r"^COPY (\w+) \w+$", DOCKERFILE, re.MULTILINE))
    # Without buildx, `docker build` ignores a Dockerfile.dockerignore.
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignore if line.startswith("!")}
    assert copied == folders
    assert let_in == folders | {"pyproject.toml", "uv.lock", "README.md", "LICENSE"}
    assert ignore[1] == "*"
