"""The row of a proxy that does not let us through: what it said, and who can fix that."""

from __future__ import annotations

from outgoing.proxies import Proxy
from site_agent.check_rows import CheckRow
from site_agent.letters import letter
from site_agent.lines import ProxyFault


def proxy_row(way: Proxy, fault: ProxyFault, host: str, port: int) -> CheckRow:
    """`host` and `port` are the coordinator's."""
    named = f"{way.shown} ({way.variable})"
    if fault.status == 407:
        return _sign_in(way, named, fault, host, port)
    if fault.status is None:
        hint = f"Correct {way.variable}, or ask your network team whether this machine may use the proxy."
        wish = f"Please let this machine use the proxy {way.host}, port {way.port}."
        return CheckRow(
            "proxy", "fail", f"{named} cannot be used: {fault.why}", hint, letter(host, port, wish)
        )
    wish = f"Please let the proxy {way.host} connect to {host}, port {port} (method CONNECT)."
    if fault.status >= 500:
        found = f"{named} does not reach {host}, port {port}: {fault.why}"
        hint = f"Ask your network team whether the proxy knows {host} and may go there; if so, the operator "
        hint += "whether the coordinator runs."
    else:
        found = f"{named} does not allow connections to {host}, port {port}: {fault.why}"
        hint = f"Ask your network team to allow {host}, port {port} on the proxy."
    return CheckRow("proxy", "fail", found, hint, letter(host, port, wish))


def _sign_in(way: Proxy, named: str, fault: ProxyFault, host: str, port: int) -> CheckRow:
    wish = f"Please let this machine through the proxy {way.host} to {host}, port {port}, with a password "
    wish += "(Basic) or without signing in."
    asked = letter(host, port, wish)
    if fault.schemes and "basic" not in (scheme.lower() for scheme in fault.schemes):
        names = ", ".join(fault.schemes)[:60]
        found = f"{named} asks for {names} (407), which the agent does not speak"
        hint = "Ask your network team for an exception without signing in, or for Basic."
        return CheckRow("proxy", "fail", found, hint, asked)
    if way.parts.username:
        found = f"{named} does not take the user name and password that {way.variable} holds (407)"
        hint = f"Correct them in {way.variable}; write %40 for @ and %3A for : within them."
        return CheckRow("proxy", "fail", found, hint, asked)
    found = f"{named} asks for a user name and a password (407)"
    hint = f"Set {way.variable} to http://<user>:<password>@{way.shown}, or ask for an exception."
    return CheckRow("proxy", "fail", found, hint, asked)
