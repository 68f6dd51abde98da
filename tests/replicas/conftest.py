from tests.dapr.conftest import daprd, no_keys

__all__ = ["daprd", "no_keys"]
