"""The agent as a systemd service: the unit's text, hardened as far as an agent that starts enclaves can be.

systemd.exec(5) explains each line. What is not there is needed: devices (a TEE, a GPU), memory that is both
written and run (torch compiles), and the whole network outward.
"""

from __future__ import annotations

from collections.abc import Mapping

NAME = "fedslice-site-agent.service"
PASSED_ON = (
    "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "all_proxy",
    "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "FEDSLICE_ENCLAVE_ENVS",
)  # fmt: skip
"""What the agent takes from its environment and a service would not have: proxies, authorities, enclaves."""

UNIT = """\
[Unit]
Description=FedSlice site agent
Documentation=man:systemd.exec(5)
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
User={user}
WorkingDirectory={path_code}
EnvironmentFile=-{path_environment}
ExecStart={word_python} -m site_agent --state {word_folder} run
Restart=on-failure
RestartSec=15
TimeoutStopSec=90
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths="{quoted_folder}"
PrivateTmp=yes
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def unit(user: str, python: str, code: str, folder: str, environment: str) -> str:
    """The unit's text. `code` is where the package site_agent lies, a clone or site-packages; `folder` the
    state folder, `environment` a file with what `settings` found."""
    return UNIT.format(
        user=user,
        path_code=_path(code),
        path_environment=_path(environment),
        word_python=_word(python),
        word_folder=_word(folder),
        quoted_folder=_path(folder).replace("\\", "\\\\").replace('"', '\\"'),
    )


def _path(path: str) -> str:
    """The whole of a line that holds one path: nothing is an escape there, and `%` starts a specifier."""
    return path.replace("%", "%%")


def _word(path: str) -> str:
    """A word of a command line: what would end it or mean more is escaped (systemd.syntax(7))."""
    signs = {" ": "\\x20", "\t": "\\x09", '"': "\\x22", "'": "\\x27", "\\": "\\x5c", "$": "$$"}
    return "".join(signs.get(sign, sign) for sign in _path(path))


def settings(found: Mapping[str, str]) -> str:
    """The environment file: a line for each setting that is there (they may hold a proxy's password)."""
    lines = []
    for name in PASSED_ON:
        if value := found.get(name, ""):
            quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "")
            lines.append(f'{name}="{quoted}"\n')
    return "".join(lines)
