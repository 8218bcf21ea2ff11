"""The whole architecture table, for all who offer or show models. An enclave asks for its model's row alone:
contracts/architecture/rows.py."""

from __future__ import annotations

from contracts.architecture.decoders import DECODERS
from contracts.architecture.encoders import ENCODERS

ARCHITECTURES = ENCODERS | DECODERS
