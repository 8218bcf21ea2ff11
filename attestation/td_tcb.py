"""What only a trust domain's TCB has: its TDX module's identity, and a level at its launch besides today's.

Order and rules as in `tcb.py`, which loads this where a quote is one of a trust domain.
"""

from __future__ import annotations

from attestation.documents import TcbInfo, TdxModule, TdxModuleIdentity
from attestation.tcb import MODULE_VERSION, Evaluation, Status
from contracts.refusal import Refusal

_BEHIND = ("OutOfDate", "OutOfDateConfigurationNeeded")
_UNCONFIGURED = (
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDateConfigurationNeeded",
)


def module_identity(info: TcbInfo, tee_tcb_svn: bytes) -> TdxModule | TdxModuleIdentity:
    """Whose TDX module it must be.

    Raises: `attest.tdx_module` where that version is not named.
    """
    version = tee_tcb_svn[MODULE_VERSION]
    if version == 0:
        if info.tdx_module is None:
            raise Refusal("attest.tdx_module", expected="a TDX module in the TCB info", found="none")
        return info.tdx_module
    wanted = f"TDX_{version:02X}"
    for identity in info.tdx_module_identities:
        if identity.id.upper() == wanted:
            return identity
    known = ", ".join(identity.id for identity in info.tdx_module_identities) or "none"
    raise Refusal("attest.tdx_module", expected=f"one of: {known}", found=wanted)


def relaunch(launch: Evaluation, current: Evaluation) -> Evaluation:
    """TDX 1.5: the TD was launched at one TCB, and the TDX module may have been updated beneath it since.

    QVL's checkForRelaunch: the launch decides; if only the launch was out of date, a new launch would help.
    The advisories are the launch's: what an old module did to the TD is not undone by an update.
    """
    if current.status == "Revoked":
        return current
    if launch.status not in _BEHIND or current.status in _BEHIND:
        return launch
    unconfigured = launch.status in _UNCONFIGURED or current.status in _UNCONFIGURED
    status: Status = "TDRelaunchAdvisedConfigurationNeeded" if unconfigured else "TDRelaunchAdvised"
    return Evaluation(status, launch.advisories)
