"""The invented platform that every development host is: one family, one security version, two past levels.

All numbers are ours. No processor has this FMSPC, and the enclave signers are hashes of sentences, so that
nothing here can be taken for Intel's.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

MARK = "DEVELOPMENT ONLY - NOT HARDWARE"

# Life of every certificate; Intel's root ends then too. The start is fixed, not the day of issue, so that
# evidence can be judged at any time that a test or an auditor names, and by a host whose clock is behind.
NOT_BEFORE = datetime(2024, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)

FMSPC = bytes.fromhex("fed511ce0000")
PCE_ID = b"\x00\x00"
PCE_SVN = 13
SGX_COMPONENTS = bytes([2, 2, 2, 2, 3, 1, 0, 3]) + bytes(8)
SGX_TYPE_SCALABLE = 1

# TEE_TCB_SVN: [0] SVN of the TDX module, [1] its major version, [2] SVN of the late microcode update.
TEE_TCB_SVN = bytes([4, 1, 3]) + bytes(13)
TDX_COMPONENTS = bytes([4, 0, 3]) + bytes(13)
TDX_MODULE_SVN = 4

# Raised by hand whenever the levels below change; it never goes back.
TCB_EVALUATION = 1
CURRENT_TCB_DATE = "2026-01-01T00:00:00Z"
PAST_TCB_DATE = "2025-01-01T00:00:00Z"
PAST_ADVISORY = "DEVELOPMENT-SA-00001"

QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
QE_SVN = 8
SGX_QE_PRODUCT = 1
TD_QE_PRODUCT = 2


def sentence_hash(sentence: str) -> bytes:
    """32 bytes that are visibly nobody's: the SHA-256 of a sentence that says what they stand for."""
    return hashlib.sha256(f"{MARK}: {sentence}".encode()).digest()


QE_MRSIGNER = sentence_hash("signer of the quoting enclave")
QE_MRENCLAVE = sentence_hash("the quoting enclave")
TD_QE_MRENCLAVE = sentence_hash("the TD quoting enclave")
