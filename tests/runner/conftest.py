"""Parts of the runner, and `scripts/run.sh` as people start it."""

from tests.dapr.conftest import daprd, no_keys

__all__ = ["daprd", "no_keys"]
