"""Other people's apps in the run file, as in Dapr's quickstarts."""

import asyncio
import signal
from pathlib import Path

import yaml

from lab.stack import eventually, render_run_file
from tests.commands import READY, command, output_of, read_until

CALLER = """
import json, os, sys, urllib.request
url = f"http://127.0.0.1:{os.environ['DAPR_HTTP_PORT']}/v1.0/invoke/{sys.argv[1]}"
with urllib.request.urlopen(f"{url}/method/analytics/alice") as answer:
    print(json.load(answer)["message_count"], os.getcwd(), os.environ.get("OPENAI_API_KEY"))
"""


async def test_a_caller_without_ports_has_a_sidecar_of_its_own(tmp_path: Path) -> None:
    run_file, folder = render_run_file(tmp_path), tmp_path / "caller"
    folder.mkdir()
    (folder / "app.py").write_text(CALLER)
    config = yaml.safe_load(run_file.read_text())
    analytics = config["apps"][0]["appID"]
    # It may call before the service answers; then it is called again.
    script = f"exec python3 app.py {analytics}"
    caller = {"appID": "caller", "appDirPath": "caller", "command": ["sh", "-c", script]}
    config["apps"].append(caller | {"appLogDestination": "console"})
    run_file.write_text(yaml.safe_dump(config))
    log = tmp_path / "data/logs/caller.log"

    async with command(
        "scripts/run.sh", "--run-file", run_file, folder=tmp_path, OPENAI_API_KEY=""
    ) as process:
        shown = await read_until(process, READY)
        told = f"{run_file}: fields that have no effect here: appLogDestination"
        assert shown.splitlines()[0] == told

        async def has_called() -> str:
            return log.read_text().splitlines()[-1]

        await eventually(has_called, f"5 {folder} None", timeout_s=60)
        await read_until(process, "caller is done")
        status = await output_of("scripts/status.sh", DACA_DATA_DIR=str(tmp_path / "data"))
        assert status.count("daprd 1.") == 3
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 60) == 0
