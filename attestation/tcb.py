"""TCB evaluation as in Intel's quote verification library (QVL): which published level a platform reaches.

Levels are tried from the highest down; a level is reached if *every* SVN of the platform is at least the
level's. The status of the platform, of the TDX module and of the quoting enclave are then merged. Pure
functions over signed documents.

Source: order and rules: QVL, `TcbLevelCheck.cpp`, `EvaluateTcb.cpp`, `TDRelaunchCheck.cpp`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from attestation.documents import PartLevel, TcbInfo, TcbLevel, TcbStatus, TdxModuleIdentity
from attestation.pck import Platform
from contracts.refusal import Refusal

# TEE_TCB_SVN: byte 0 is the SVN of the TDX module, byte 1 its major version.
MODULE_SVN = 0
MODULE_VERSION = 1

Status = TcbStatus | Literal["TDRelaunchAdvised", "TDRelaunchAdvisedConfigurationNeeded"]


class Evaluation(NamedTuple):
    """A status and the advisories that come with it, in the order of the documents, each once."""

    status: Status
    advisories: tuple[str, ...]


def platform_level(info: TcbInfo, platform: Platform, tee_tcb_svn: bytes | None) -> TcbLevel:
    """The highest level that the platform reaches. `tee_tcb_svn` (16 bytes) is the TD's; None for SGX.

    Where the TDX module has a major version, its own identity rates bytes 0 and 1.

    Raises: `attest.tcb_not_supported`.
    """
    for level in sorted(info.tcb_levels, key=_height, reverse=True):
        reached = platform.pce_svn >= level.tcb.pcesvn and _covers(platform.components, level.tcb.sgx)
        if reached and tee_tcb_svn is not None:
            first = 2 if tee_tcb_svn[MODULE_VERSION] > 0 else 0
            needed = level.tcb.tdx
            reached = needed is not None and _covers(tee_tcb_svn[first:], needed[first:])
        if reached:
            return level
    found = f"components {platform.components.hex()}, PCE SVN {platform.pce_svn}"
    if tee_tcb_svn is not None:
        found += f", TEE TCB SVN {tee_tcb_svn.hex()}"
    raise Refusal("attest.tcb_not_supported", expected="a published TCB level", found=found)


def part_level(levels: Sequence[PartLevel], svn: int, what: str) -> PartLevel:
    """The highest level of the quoting enclave or TDX module with this SVN.

    Raises: `attest.tcb_not_supported`.
    """
    for level in sorted(levels, key=lambda level: level.tcb.isvsvn, reverse=True):
        if svn >= level.tcb.isvsvn:
            return level
    raise Refusal("attest.tcb_not_supported", expected=f"a published level of the {what}", found=f"SVN {svn}")


def evaluate(info: TcbInfo, platform: Platform, qe: PartLevel, tee_tcb_svn: bytes | None) -> Evaluation:
    """The merged status for one TEE_TCB_SVN (None for SGX).

    Raises: `attest.tcb_not_supported` or `attest.tdx_module`.
    """
    level = platform_level(info, platform, tee_tcb_svn)
    parts = [qe]
    if tee_tcb_svn is not None:
        from attestation.td_tcb import module_identity  # loaded where somebody shows a trust domain

        identity = module_identity(info, tee_tcb_svn)
        if isinstance(identity, TdxModuleIdentity):
            parts.insert(0, part_level(identity.tcb_levels, tee_tcb_svn[MODULE_SVN], "TDX module"))
    status = merge(level.tcb_status, [part.tcb_status for part in parts])
    return Evaluation(status, _once([level.advisories, *(part.advisories for part in parts)]))


def merge(platform: TcbStatus, parts: Iterable[str]) -> TcbStatus:
    """QVL's convergeTcbStatus: a part that is out of date makes the platform so, and keeps its configuration
    need; a revoked part revokes it."""
    parts = set(parts)
    if "Revoked" in parts:
        return "Revoked"
    if "OutOfDate" in parts:
        if platform in ("UpToDate", "SWHardeningNeeded"):
            return "OutOfDate"
        if platform in ("ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"):
            return "OutOfDateConfigurationNeeded"
    return platform


def _height(level: TcbLevel) -> tuple[bytes, int, bytes]:
    return level.tcb.sgx, level.tcb.pcesvn, level.tcb.tdx or b""


def _covers(have: bytes, needed: bytes) -> bool:
    return all(svn >= least for svn, least in zip(have, needed, strict=True))


def _once(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(advisory for advisories in lists for advisory in advisories))
