import re
from pathlib import Path

from scripts.lib.project import ROOT
from scripts.names import write_names
from scripts.stack import Stack


def test_the_tutorials_storm_kills_each_process(tmp_path: Path) -> None:
    chapter = (ROOT / "docs/tutorial/4-counting.md").read_text()
    patterns = re.findall(r"\) pkill -9 -f '(.+)' ;;", chapter)
    stack = Stack(ROOT / "dapr.yaml", daprd=Path("daprd"), log_dir=tmp_path)
    write_names(stack, tmp_path / "names.yaml")
    killed = [
        name
        for name, service in stack.services.items()
        for pattern in patterns
        if re.search(pattern, " ".join(service.command))
    ]
    assert killed == list(stack.services)
