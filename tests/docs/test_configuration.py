"""The documents on settings match the settings."""

import pytest
from pydantic import Field

from daca_shared.settings import ServiceSettings
from scripts.docs.configuration import Setting, wanted


class Settings(ServiceSettings):
    told: float = Field(2, gt=0, le=9, alias="TOLD_S")
    """How long\n    it takes."""
    untold: int = Field(1, alias="UNTOLD")


def test_the_documents_say_what_the_settings_say() -> None:
    drifted = [path.name for path, text in wanted().items() if path.read_text() != text]
    assert drifted == [], "run scripts/gen_docs.sh and commit the result"


def test_a_setting_is_documented_with_its_default_unit_and_limits() -> None:
    setting = Setting(Settings.model_fields["told"])
    assert (setting.variable, setting.default) == ("TOLD_S", "2")
    assert setting.meaning == "How long it takes (seconds, above 0, at most 9)."


def test_a_setting_without_a_description_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="UNTOLD has no docstring"):
        Setting(Settings.model_fields["untold"])
