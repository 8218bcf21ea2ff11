"""Say which key the transparency log has: hospitals are told the fingerprint, by letter or telephone."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from federation.attestation import log
from federation.spoken_command import SpokenCommand
from translations.catalogues import marked


class Command(SpokenCommand):
    help = marked(
        "The log's verifier key and its fingerprint. Tell hospitals the fingerprint by another channel."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{_('key'):<15}{log.verifier_key()}")
        self.stdout.write(f"{_('fingerprint'):<15}{log.key_fingerprint()}")
