"""What an agent's connection check tells, in the reader's language.

The rows are told to the coordinator in English (docs/decisions/0045), so that one row says the same at
the terminal and on the hospital's page. A reader of another language is shown it by its template here: what
varies in it stays, or is a text of this kind itself. What fits none stays in English. A test holds the
templates against the code of the checks.
"""

from __future__ import annotations

import re
from functools import cache

from error_catalogue.catalogue import CATALOGUE
from translations.catalogues import words
from translations.spoken import ENGLISH, language

TEMPLATES = (
    # Names of rows
    "enrolment", "state folder", "coordinator", "clock", "proxy", "TLS inspection", "storage", "disk",
    "memory", "processors", "datasets", "versions", "enclave",
    # The agent itself
    'site {site}, "{name}", with {coordinator}',
    "Run: chmod -R go-rwx {folder}",
    "others may read {names}",
    "{folder}, for its owner only",
    "Fix the first red row above. If there is none, a proxy or your network's sign-in page may have answered "
    "instead of the coordinator: give your network team the text below.",
    "answers in {took}; this site is {standing} there",
    "invited", "active", "suspended", "revoked",
    "{seconds} s apart from the coordinator's",
    "Switch time synchronisation on: timedatectl set-ntp true",
    "{count}, unchanged on the disk",
    "{count}, unchanged on the disk; not published: {datasets}",
    "{n} dataset", "{n} datasets", "{n} core", "{n} cores",
    "Run: python -m site_agent dataset publish {name}",
    "missing: {names}",
    "Run: python -m pip install -r requirements-site.txt",
    # The machine
    "Make room, or move the state folder; {size} are enough for most runs.",
    "{size} free",
    "Training the small models needs {size}; larger ones need more.",
    "{size} in this machine",
    "an NVIDIA device; its driver does not name it",
    "none; the processor does the multiplications, slower",
    # Its network
    "none; direct connection",
    "none; direct connection; NO_PROXY names the coordinator",
    "none (plain HTTP)",
    "Use https:// for anything but a trial.",
    "this machine's DNS does not answer (asked for {host})",
    "See whether this machine is connected, and whether /etc/resolv.conf is right.",
    "{host} has no address here",
    "Ask your network team whether this machine's DNS knows the name, or set HTTPS_PROXY.",
    "{host} is {addresses}",
    "{version}, by {signer}, {days} days left",
    "Tell the operator that the certificate ends soon.",
    "none: {signer} is a public authority",
    "If {signer} is the coordinator's own authority, all is well. If it is your own proxy, that reads "
    "heartbeats and counts; updates stay sealed. Ask for an exception if you can.",
    "possible: {signer} is no public authority; only {store} knows it",
    "your --ca-bundle", "this machine's own store",
    "no TLS: {fault}",
    "Compare the address with the coordinator's page; {address} is asked now. If it is right, tell the "
    "operator, or your network team if something answers in its place.",
    "no connection: {fault}",
    "Ask your network team to allow outgoing connections to {host}, port {port}.",
    "Compare the port with the coordinator's page, and ask its operator whether it runs. {hint}",
    # A certificate that is not trusted
    "If this machine's clock is wrong, switch time synchronisation on: timedatectl set-ntp true.",
    "not trusted: {fault}",
    "it is by {signer}",
    "the certificate", "a certificate in its chain",
    "Tell the operator to renew it. {clock}",
    "{which} ended on {day}; {by}",
    "the certificate begins on {day}; this machine's clock says {now}; {by}",
    "{clock} If it is right, tell the operator.",
    "the certificate is for {names}, not for {host}; {by}",
    "Enrol with the address that the coordinator's page shows. If that is this one, something answers in "
    "its place (ask your network team), or the operator's certificate lacks the name.",
    "{hint} {name} ({value}) replaces this machine's store and does not hold it.",
    "not trusted: the certificate is signed by itself ({signer})",
    "{hint} Else the operator needs one by an authority.",
    "not trusted: the certificate is by {signer}, whose authority is not known here",
    "not trusted: the certificate is by {signer}, and {missing} is not known here ({sent} sent)",
    "{n} certificate", "{n} certificates",
    "If {missing} is a public authority's intermediate, the operator must have its certificate sent as "
    "well (the full chain). {hint}",
    "If your network opens TLS, ask for an exception, or enrol with --ca-bundle FILE and {certificate} "
    "(PEM).",
    "its authority", "this certificate", "that authority's certificate", "its certificate",
    "an authority without a name", "no name at all", "nobody",
    # A proxy, a storage
    "Correct {variable}, or ask your network team whether this machine may use the proxy.",
    "{proxy} cannot be used: {fault}",
    "{proxy} does not reach {host}, port {port}: {fault}",
    "Ask your network team whether the proxy knows {host} and may go there; if so, the operator whether the "
    "coordinator runs.",
    "{proxy} does not allow connections to {host}, port {port}: {fault}",
    "Ask your network team to allow {host}, port {port} on the proxy.",
    "{proxy} asks for {names} (407), which the agent does not speak",
    "Ask your network team for an exception without signing in, or for Basic.",
    "{proxy} does not take the user name and password that {variable} holds (407)",
    "Correct them in {variable}; write %40 for @ and %3A for : within them.",
    "{proxy} asks for a user name and a password (407)",
    "Set {variable} to http://<user>:<password>@{proxy}, or ask for an exception.",
    "Sealed files go by the coordinator meanwhile. Ask your network team to open the way.",
    "{host} answers ({status} to a stranger); sealed files alone go there",
    # Trusted execution
    "Method 1 needs SGX at the hospital, Method 2 nothing; what is here stands below",
    "Development evidence protects nothing against this machine's own administrators.",
    "runtime {runtime}; no hardware is used",
    "Enrol this machine again.",
    "runtime {runtime}; the hardware that it needs stands below",
    "{found} (not needed by this site so far)",
    "Where the processor has SGX, switch it on in the firmware (and the hypervisor).",
    "not in this processor, or switched off in its firmware",
    "Set launch control to flexible in the firmware; processors without it cannot make DCAP quotes.",
    "without flexible launch control, so no quotes can be made",
    "Use a kernel of 5.11 or later with CONFIG_X86_SGX, and enough protected memory in the firmware.",
    "in the processor, but kernel {kernel} has no driver for it",
    "in the processor, but kernel {kernel} has no driver for it, which is too old for one",
    "Let the agent's user open them: usermod -aG sgx,sgx_prv USER (group names differ).",
    "the driver is there, but this user may not open {names}",
    "{device}, {size} of protected memory (EPC), kernel {kernel}",
    "{device}, EPC not told, kernel {kernel}",
    "Run the agent on a machine with SGX, or ask for a study with Method 2.",
    "{size} are asked, and there is no SGX here",
    "{size} are asked; this machine does not tell its EPC",
    "Read the EPC's size in the firmware, or use a kernel of 5.17 or later.",
    "{size} fit into {epc} of EPC",
    "Give SGX more in the firmware, or ask for a public front, masked layers or less rows a batch.",
    "{size} do not fit into {epc} of EPC; swapped, a step takes many times as long",
    "Install sgx-aesm-service with its ECDSA plugin and libsgx-dcap-ql, and start aesmd.",
    "aesmd listens; libsgx-dcap-ql {version}",
    "Install Gramine 1.9 from its own package repository (docs/operations.md).",
    "{name} is not on PATH",
    "{loader}, version not told",
    "a trust domain with configfs-tsm, kernel {kernel}",
    "Run inside a trust domain, on a kernel of 6.7 or later with configfs-tsm mounted.",
    "this is no trust domain",
    "a trust domain, but without configfs-tsm",
    "a trust domain, but without configfs-tsm: kernel {kernel} is too old",
    "not needed for the runtime {runtime}", "not needed for machines without SGX quotes",
    "Name the address of your PCCS in {file} (pccs_url); without it quotes carry no certificates.",
    "{file} names none",
    "Write pccs_url in {file} as https://HOST:{port}/sgx/certification/v4/.",
    "{file} names {address}, which is no address",
    "Start the PCCS, or allow connections from this machine to {host}, port {port}.",
    "{address} does not answer: {fault}",
    "{address} answers",
    # The letter to whoever looks after the network, line by line
    "Subject: outgoing HTTPS from {here} to {host}, port {port}",
    "We take part in a study with FedSlice. Its site agent on {here} talks to {names} only.",
    "{first} and {second}",
    "- Direction: outgoing only. The agent accepts no connections from outside.",
    "- Destination: {places}. No other address is needed.",
    "{host}, TCP port {port}, TLS 1.2 or 1.3",
    "{first}; and {second}",
    "{host}, TCP port {port}, the same TLS (sealed files alone go there)",
    "- What goes out: {first}; {second}; {third}; {fourth}.",
    "- Uploads may have some hundred megabytes and last for minutes.",
    "Please allow outgoing connections to {host}, port {port}, and POST requests on them.",
    "Please allow outgoing connections to {host}, port {port}.",
    "Please let this machine resolve the name {host}, or tell us the proxy that it shall use.",
    "Please exempt {host} from TLS inspection. What arrives here now is a certificate by {signer}, which "
    "this machine does not trust.",
    "Please exempt {host} from TLS inspection, if {signer} is what opens it now.",
    "Please let this machine use the proxy {host}, port {port}.",
    "Please let the proxy {proxy} connect to {host}, port {port} (method CONNECT).",
    "Please let this machine through the proxy {proxy} to {host}, port {port}, with a password (Basic) or "
    "without signing in.",
    "Please allow outgoing TCP connections from {here} to {host}, port {port} (the cache of Intel's platform "
    "certificates, PCCS). No incoming connections are needed.",
)  # fmt: skip
NESTED = {
    "by", "certificate", "clock", "count", "first", "found", "fourth", "hint", "names", "places", "second",
    "sent", "signer", "store", "third", "which",
}  # fmt: skip
"""What varies and may be a text of this kind. Everything else is a name or a number, and stays."""
WITHIN = ("{first} and {second}", "{first}; and {second}")
"""So loose that they are looked for only within another text of this kind."""
ONE_WORD = {"address", "host", "port", "n", "days", "day", "seconds"}
_ = words("error_catalogue")
_leaving = words("manifest_summary")


def readable(text: str) -> str:
    """A row's name, finding, hint or letter in the language that is spoken."""
    return text if language() == ENGLISH else "\n".join(map(_line, text.splitlines()))


def _line(text: str, *, within: bool = False) -> str:
    if (
        text and (said := _leaving(text)) != text
    ):  # what leaves a hospital, in the words of what it reads and signs
        return said
    for pattern, template in _patterns():
        if (within or template not in WITHIN) and (found := pattern.fullmatch(text)):
            parts = {
                name: _line(part, within=True) if name in NESTED else part
                for name, part in found.groupdict().items()
            }
            return _(template).format_map(parts)
    return text


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """The most telling first: of two that fit, the one with more of its own words."""
    entries = [text for entry in CATALOGUE.values() for text in (entry.message, entry.hint)]
    known = {text for text in (*TEMPLATES, *entries) if re.sub(r"\{\w+\}", "", text).strip(" .:,")}
    return [(pattern_of(text), text) for text in sorted(known, key=_own_words, reverse=True)]


def _own_words(template: str) -> tuple[int, str]:
    return len(re.sub(r"\{\w+\}", "", template)), template


def pattern_of(template: str) -> re.Pattern[str]:
    """What the template looks like with anything filled in. What is filled in ends where the template's next
    words begin for the first time: a hospital writes these texts, and where each place could end anywhere, a
    thousand characters would cost minutes."""
    names: set[str] = set()
    parts: list[str] = []
    pieces = re.split(r"(\{\w+\})", template)
    for words_before, hole in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
        if parts and words_before and hole:
            parts[-1] = f"(?>{parts[-1]}{re.escape(words_before)})"
        else:
            parts.append(re.escape(words_before))
        if (name := hole[1:-1]) in names:
            parts.append(f"(?P={name})")
        elif name:
            names.add(name)
            parts.append(f"(?P<{name}>{'[^ ]' if name in ONE_WORD else '.'}+?)")
    return re.compile("".join(parts))
