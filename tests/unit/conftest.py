"""An environment without the developer's own settings."""

from pathlib import Path

import pytest

from chat_service.settings import ChatSettings


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No settings and no `.env`. The test sets what it needs."""
    monkeypatch.chdir(tmp_path)
    for field in ChatSettings.model_fields.values():
        monkeypatch.delenv(str(field.validation_alias), raising=False)
    monkeypatch.delenv("ANALYTICS_SEED_DEMO_USERS", raising=False)
    monkeypatch.delenv("ANALYTICS_GRPC_PORT", raising=False)
    monkeypatch.delenv("ANALYTICS_METRICS_PORT", raising=False)
    return monkeypatch
