"""Which language is spoken, by whom it is chosen."""

from __future__ import annotations

import pytest

from translations import spoken


@pytest.fixture(autouse=True)
def german(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken, "LANGUAGES", {"en": "English", "de": "Deutsch"})


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "de"),
        ({"LANG": "de"}, "de"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "de_AT.UTF-8"}, "de"),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": ""}, "de"),
        ({"LANG": "denmark"}, "en"),
    ],
)
def test_a_terminal_speaks_by_its_locale(environment: dict[str, str], language: str) -> None:
    assert spoken.of_terminal(environment) == language


def test_who_speaks_explicitly_goes_before_what_is_followed() -> None:
    before = list(spoken._followed)
    try:
        spoken.follow(lambda: "de-at")
        assert spoken.language() == "de"
        with spoken.speaking("en"):
            assert spoken.language() == "en"
            with spoken.speaking("tlh"):
                assert spoken.language() == "en"
        assert spoken.language() == "de"
    finally:
        spoken._followed[:] = before
