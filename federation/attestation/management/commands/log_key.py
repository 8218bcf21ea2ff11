"""Say which key the transparency log has: hospitals are told the fingerprint, by letter or telephone."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from federation.attestation import log


class Command(BaseCommand):
    help = "The log's verifier key and its fingerprint. Tell hospitals the fingerprint by another channel."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"key          {log.verifier_key()}")
        self.stdout.write(f"fingerprint  {log.key_fingerprint()}")
