"""How sessions of documents are run, tried with a document made for that."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from scripts.lib.project import ROOT
from tests.docs.session import environment, run_step
from tests.docs.terminal import Machine, NoMachine, machine
from tests.docs.text import blocks_of

TEXT = """
```console
$ HERE=yes
$ echo $HERE $DATABASE_URL; ls -d data .env
yes
ls: cannot access 'data': No such file or directory
ls: cannot access '.env': No such file or directory
```

<!-- keeps running -->
```console
$ echo up; sleep 99
up
```

```console
$ echo "another terminal: $HERE"
another terminal:
```

<!-- Ctrl-C -->
<!-- file: new/hello.py -->
```python
print("hello")
```

```diff
--- a/new/hello.py
+++ b/new/hello.py
@@ -1 +1 @@
-print("hello")
+print("hello again")
```

```console
$ .venv/bin/python new/hello.py
hello again
$ ip -brief link | grep -c -v ^lo
0
```
"""


@contextmanager
def able_machine(folder: Path) -> Iterator[Machine]:
    """A machine. Skips the test if none can be made."""
    try:
        with machine(folder / "layer", environment(folder)) as ours:
            yield ours
    except NoMachine as reason:
        pytest.skip(str(reason))


def surprises(text: str, folder: Path) -> list[str]:
    document = folder / "a.md"
    document.write_text(text)
    with able_machine(folder) as ours:
        return [told for b in blocks_of(document) for s in b.steps() for told in run_step(s, ours)]


def test_expected_output_passes_and_no_process_is_left(tmp_path: Path) -> None:
    assert surprises(TEXT, tmp_path) == []
    assert not (ROOT / "new").exists()


def test_unexpected_output_is_reported_with_its_place(tmp_path: Path) -> None:
    [told] = surprises("```console\n$ echo 1; echo 2\n1\n3\n$ echo 4\n4\n```\n", tmp_path)
    assert told == "a.md:2:\n$ echo 1; echo 2\n1\n2\n--- instead of\n1\n3"


def test_a_session_that_fails_leaves_no_process(tmp_path: Path) -> None:
    ours = Path(f"/proc/self/task/{os.getpid()}/children")
    before = ours.read_text()
    with suppress(TimeoutError), able_machine(tmp_path) as made:
        made.terminal().start("sleep 99")
        raise TimeoutError
    assert ours.read_text() == before
