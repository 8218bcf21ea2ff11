"""A manifest's own words in those of people."""

from __future__ import annotations

from manifest_summary.facts import _
from translations.numbers import number


def word(name: object) -> str:
    """The words for a manifest's one; itself where it has none."""
    words = {
        "method-1": _("Method 1: federated, in the hospitals' enclaves"),
        "method-2": _("Method 2: split, in the server's enclave"),
        "all_in_tee": _("all in the enclave"),
        "masked": _("masked: frozen layers on the accelerator"),
        "plaintext": _("PLAINTEXT: baseline, nothing is protected"),
        "accelerator-site": _("the hospitals themselves: each has its own"),
        "accelerator-other": _("somebody else, perhaps"),
        "passes-native": _("a library in C, of which the enclave's program names the hash"),
        "sequence-classification": _("sorting texts"),
        "token-classification": _("tagging words"),
        "causal-lm": _("writing text"),
        "text-label": _("texts, each with its class"),
        "pair-label": _("pairs of texts, each with its class"),
        "text-labels": _("texts, each with any number of labels"),
        "token-tags": _("words, each with its tag"),
        "prompt-response": _("prompts with their responses"),
        "prompt-choices": _("questions with choices, and the right one"),
        "messages": _("conversations"),
        "text": _("texts"),
        "model": _("the model's own, among its pinned files"),
        "plain": _("FedSlice's plain one, as the model has none"),
        "nothing": _("nothing: the result stays sealed"),
        "serve-only": _("serve only: the enclave answers, the parameters stay inside"),
        "sealed-to-sites": _("sealed to the hospitals"),
        "export": _("export as a PEFT adapter"),
        "fedavg": _("FedAvg"),
        "ffa-lora": _("FFA-LoRA"),
        "stack-svd": _("stacking and SVD"),
        "fedavgm": _("FedAvgM"),
        "fedadam": _("FedAdam"),
        "fedyogi": _("FedYogi"),
        "constant": _("constant"),
        "linear": _("falling in a line to 0"),
        "cosine": _("falling in a cosine to 0"),
        "intel": _("Intel's"),
        "largest": _("largest"),
        "smallest": _("smallest"),
        "random": _("random"),
        "accepted": _("accepted"),
        "refused": _("refused"),
    }
    return words.get(str(name), str(name))


def no_patients() -> str:
    """What a run without hardware must not be used for."""
    return _("DEVELOPMENT ONLY: no hardware protects anything; use no real patients' data")


def duration(seconds: int) -> str:
    """`90 s`, `10 min`, `2 h 05 min`."""
    minutes, rest = divmod(seconds, 60)
    if not minutes or rest:
        return _("%(n)d s") % {"n": seconds}
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return _("%(n)d min") % {"n": minutes}
    return _("%(hours)d h %(minutes)02d min") % {"hours": hours, "minutes": minutes}


def size(count: int) -> str:
    """`412 B`, `5.0 GiB`."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        del units[0]
    return f"{count} B" if units[0] == "B" else number(f"{value:.1f} {units[0]}")
