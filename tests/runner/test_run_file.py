"""Run files are parsed as by Dapr's CLI."""

from pathlib import Path

import pytest

from scripts.lib.project import StackError
from scripts.lib.run_file import (
    App,
    configuration_of,
    daprd_command,
    read_run_file,
    set_configuration,
)
from scripts.stack import Stack
from scripts.status import what_runs

# As in Dapr's quickstarts: a server, and a caller without ports.
QUICKSTART = """
version: 1
common:
  resourcesPath: ../../components/
  env:
    DEBUG: true
    LEVEL: 1
apps:
  - appID: order-processor
    appDirPath: ./order-processor/
    appPort: 6001
    daprHTTPPort: 3501
    command: ["python3", "app.py"]
    env: {LEVEL: 2}
  - appDirPath: ./checkout/
    command: ["python3", "app.py"]
"""
PORTS = {"HTTP": 2, "gRPC": 3, "internal gRPC": 4, "metrics": 5}


def read(folder: Path, text: str) -> list[App]:
    (folder / "dapr.yaml").write_text(text)
    return read_run_file(folder).apps


def test_a_quickstart_is_understood(tmp_path: Path) -> None:
    server, caller = read(tmp_path, QUICKSTART)
    assert (server.app_id, server.port, server.protocol) == ("order-processor", 6001, "http")
    assert server.folder == tmp_path / "order-processor"
    assert server.command == ["python3", "app.py"]
    assert server.sidecar_ports == {"HTTP": 3501}
    assert server.environment == {"DEBUG": "true", "LEVEL": "2"}
    # It is named after its folder.
    assert (caller.app_id, caller.port, caller.sidecar_ports) == ("checkout", 0, {})
    assert caller.environment == {"DEBUG": "true", "LEVEL": "1"}
    assert caller.resources == [tmp_path / "../../components"]


def test_what_apps_have_in_common_may_be_merged(tmp_path: Path) -> None:
    one = "{appDirPath: a, env: &shared {A: 1, B: 2}}"
    _, two = read(tmp_path, f"apps: [{one}, {{appDirPath: b, env: {{<<: *shared, B: no}}}}]")
    assert two.environment == {"A": "1", "B": "no"}


def test_an_app_without_ports_has_a_sidecar_without_an_app_port(tmp_path: Path) -> None:
    (tmp_path / "dapr.yaml").write_text(QUICKSTART)
    stack = Stack(tmp_path, daprd=Path("daprd"), log_dir=tmp_path, environment={"PATH": "/bin"})
    caller, sidecar = stack.services["checkout"], stack.services["checkout-sidecar"]
    assert caller.ports == {}
    assert caller.folder == tmp_path / "checkout"
    assert not {"--app-port", "--app-protocol"} & set(sidecar.command)
    assert all(sidecar.ports.values())
    assert caller.environment["DAPR_HTTP_PORT"] == str(sidecar.ports["HTTP"])
    assert caller.environment["DAPR_GRPC_PORT"] == str(sidecar.ports["gRPC"])
    assert caller.environment["APP_ID"] == "checkout"
    assert caller.environment["DEBUG"] == "true"
    assert stack.services["order-processor"].environment["APP_PORT"] == "6001"


def test_an_apps_name_is_unique_and_makes_it_no_sidecar(tmp_path: Path) -> None:
    (tmp_path / "dapr.yaml").write_text("apps: [{appDirPath: a-sidecar, command: [a]}]")
    stack = Stack(tmp_path, daprd=Path("daprd"), log_dir=tmp_path, environment={"PATH": "/bin"})
    kinds = {name: service.is_sidecar for name, service in stack.services.items()}
    assert kinds == {"a-sidecar": False, "a-sidecar-sidecar": True}
    assert what_runs(tmp_path) == {}  # neither of them has a port that the file sets
    (tmp_path / "dapr.yaml").write_text(f"{QUICKSTART}\n    appID: order-processor")
    with pytest.raises(StackError, match="two apps, or sidecars, called order-processor"):
        Stack(tmp_path, daprd=None, log_dir=tmp_path, environment={"PATH": "/bin"})


@pytest.mark.parametrize(
    ("common", "own", "there", "config", "resources"),
    [
        ("", "", False, None, []),
        ("c", "", False, "c/config.yaml", ["c/resources"]),
        ("c", "", True, "app/.dapr/config.yaml", ["app/.dapr/resources"]),
        ("c", "o", True, "app/o/config.yaml", ["app/o/resources"]),
        ("", "~", False, "~/config.yaml", ["~/resources"]),
    ],
)
def test_the_nearest_configuration_and_resources_win(
    tmp_path: Path, common: str, own: str, *, there: bool, config: str | None, resources: list[str]
) -> None:
    def named(folder: str) -> str:
        if not folder:
            return "{}"
        return f"{{configFilePath: {folder}/config.yaml, resourcesPaths: [{folder}/resources]}}"

    if there:
        (tmp_path / "app/.dapr/resources").mkdir(parents=True)
        (tmp_path / "app/.dapr/config.yaml").touch()
    section = named(own).strip("{}")
    rest = f", {section}" if section else ""
    text = f"common: {named(common)}\napps: [{{appID: a, appDirPath: app{rest}}}]"
    (app,) = read(tmp_path, text)
    assert app.config == (config and tmp_path / Path(config).expanduser())
    assert app.resources == [tmp_path / Path(path).expanduser() for path in resources]


def test_resources_paths_may_be_separated_by_commas(tmp_path: Path) -> None:
    (app,) = read(tmp_path, "apps: [{appDirPath: a, resourcesPaths: 'one, two'}]")
    assert app.resources == [tmp_path / "a/one", tmp_path / "a/two"]


@pytest.mark.parametrize("name", ["a,b", 'a"b', "a\nb"])
def test_separators_in_a_path_are_quoted_for_sidecars(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    app = App("a", folder, [], config=folder / "c.yaml", resources=[folder / "r"])
    command = daprd_command(Path("daprd"), app, port=0, ports=PORTS)
    quoted = str(folder).replace('"', '""')
    assert command[command.index("--config") :] == [
        *("--config", f'"{quoted}/c.yaml"', "--resources-path", f'"{quoted}/r"')
    ]
    set_configuration(command, folder / "other.yaml")
    assert configuration_of(command) == folder / "other.yaml"


def test_other_options_of_daprds_are_passed_on_and_an_empty_address_is_none(
    tmp_path: Path,
) -> None:
    (app,) = read(
        tmp_path,
        """
        common: {logLevel: warn, placementHostAddress: " ", enableApiLogging: true}
        apps: [{appDirPath: a, appMaxConcurrency: 3, logLevel: debug, appPort: 1}]
        """,
    )
    command = daprd_command(Path("daprd"), app, port=1, ports=PORTS)
    assert command[-3:] == [
        "--app-max-concurrency=3",
        "--log-level=debug",
        "--enable-api-logging=true",
    ]
    assert not any("placement" in part for part in command)


def test_sidecars_listen_on_this_machine_only_whatever_the_file_says(tmp_path: Path) -> None:
    (app,) = read(tmp_path, "apps: [{appDirPath: a, apiListenAddresses: 0.0.0.0}]")
    command = daprd_command(Path("daprd"), app, port=0, ports=PORTS)
    assert command[command.index("--dapr-listen-addresses") + 1] == "127.0.0.1"
    assert "0.0.0.0" not in " ".join(command)  # noqa: S104 - what must not be


def test_fields_without_an_effect_are_named(tmp_path: Path) -> None:
    text = """
    common: {appLogDestination: console}
    apps: [{appDirPath: a, containerImage: b, appPrt: 1}]
    other: 1
    """
    (tmp_path / "dapr.yaml").write_text(text)
    found = read_run_file(tmp_path).not_understood
    assert found == ["appLogDestination", "appPrt", "containerImage", "other"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("apps: [", "ParserError"),
        ("hello", "it has no apps"),
        ("", "it has no apps"),
        ("apps: []", "it has no apps"),
        ("apps: [a]", "is no run file"),
        ("apps: [{appDirPath: ~nobody-here/a}]", "home directory"),
        ("apps: [{appID: a}]", "a has no appDirPath"),
        ("apps: [{appDirPath: a, appPort: many}]", "many"),
        ("apps: [{appDirPath: a, appPort: -5}]", "-5 is no port"),
        ("apps: [{appDirPath: a, daprHTTPPort: 73501}]", "73501 is no port"),
        ("apps: [{appDirPath: a, command: python app.py}]", "'python app.py' must be a list"),
        ("apps: [{appDirPath: a, env: {PORTS: [1, 2]}}]", "['1', '2'] must be a text"),
    ],
)
def test_an_invalid_run_file_is_refused_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(StackError) as error:
        read(tmp_path, text)
    assert told in str(error.value)
    assert str(tmp_path / "dapr.yaml") in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_run_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"none\.yaml: No such file"):
        read_run_file(tmp_path / "none.yaml")
