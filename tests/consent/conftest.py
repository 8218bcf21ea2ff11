"""What a hospital reads and says is tested with the cast of the control plane's tests."""

from __future__ import annotations

from tests.federation.conftest import (  # noqa: F401  fixtures
    alice,
    anna,
    barbara,
    base_model,
    bob,
    carol,
    clara,
    draft,
    frozen,
    lena,
    ludo,
    olga,
    ready,
    reference_values,
    state_folder,
)
