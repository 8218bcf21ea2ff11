"""A text that a site admin sends to whoever looks after the hospital's network."""

from __future__ import annotations

import socket

from manifest_summary.leaving import ever


def letter(host: str, port: int, wish: str) -> str:
    """What is asked for, from where to where, and what it is not."""
    return (
        f"Subject: outgoing HTTPS from {socket.gethostname()} to {host}, port {port}\n\n"
        f"We take part in a study with FedSlice. Its site agent on {socket.gethostname()} talks to {host} "
        f"only.\n\n{wish}\n\n"
        f"- Direction: outgoing only. The agent accepts no connections from outside.\n"
        f"- Destination: {host}, TCP port {port}, TLS 1.2 or 1.3. No other address is needed.\n"
        f"- What goes out: {'; '.join(ever())}.\n"
        f"- Uploads may have some hundred megabytes and last for minutes."
    )
