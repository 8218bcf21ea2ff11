"""A manifest's own words in those of the pages."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

WORDS = {
    "method-1": _("Method 1: federated, in the hospitals' enclaves"),
    "method-2": _("Method 2: split, in the server's enclave"),
    "all_in_tee": _("all in the enclave"),
    "masked": _("masked: frozen layers on the accelerator"),
    "plaintext": _("PLAINTEXT: baseline, nothing is protected"),
    "sequence-classification": _("sorting texts"),
    "causal-lm": _("writing text"),
    "nothing": _("nothing: the result stays sealed"),
    "serve-only": _("serve only: the enclave answers, the parameters stay inside"),
    "sealed-to-sites": _("sealed to the hospitals"),
    "export": _("export as a PEFT adapter"),
    "fedavg": _("FedAvg"),
    "ffa-lora": _("FFA-LoRA"),
    "stack-svd": _("stacking and SVD"),
    "constant": _("constant"),
    "linear": _("falling in a line to 0"),
    "cosine": _("falling in a cosine to 0"),
    "intel": _("Intel's"),
}


def word(name: object) -> str:
    """The words for a manifest's one; itself where it has none."""
    return str(WORDS.get(str(name), name))
