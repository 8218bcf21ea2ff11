"""The glossary of the pages: each word with its other forms, and what it means in a sentence or two."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Term(NamedTuple):
    """`key` is its anchor, `name` its heading. `forms` are how it is written in texts, in English or German,
    between bars, without regard to case unless it is all capitals."""

    key: str
    name: str | Promise
    forms: str
    means: str | Promise


TERMS = (
    Term(
        "adapter",
        _("adapter, LoRA"),
        "LoRA|adapters|adapter",
        _(
            "A few small matrices beside the model's own, which stay as they are. Only these are "
            "tuned and released."
        ),
    ),
    Term(
        "attested",
        _("attested"),
        "attested|attestiert|attestierte|attestierten",
        _(
            "Shown by evidence that a processor signed: this very program runs in protected "
            "hardware, and this key is its own."
        ),
    ),
    Term(
        "collateral",
        _("collateral"),
        "collateral",
        _(
            "What a processor's maker says about it: certificates, lists of revoked ones, known "
            "weaknesses. A quote is judged by it; it runs out."
        ),
    ),
    Term(
        "dp",
        _("differential privacy"),
        "differential privacy|Differential Privacy",
        _("Noise of a known amount that hides what one row, or one hospital, has added to the result."),
    ),
    Term(
        "enclave",
        _("enclave"),
        "enclaves|enclave|Enklaven|Enklave",
        _(
            "A program that protected hardware keeps apart: whoever runs the machine cannot look "
            "into it or change it unseen."
        ),
    ),
    Term(
        "epsilon",
        _("ε (epsilon)"),
        "ε|epsilon",
        _(
            "How much noise still lets through: the smaller, the less anybody can learn about one "
            "row or hospital. Around 1 is strict, above 10 weak."
        ),
    ),
    Term(
        "evidence",
        _("evidence"),
        "evidence|Nachweise|Nachweis",
        _(
            "A quote with its collateral and the claims that it is over. It goes into the log, and "
            "anybody can judge it again."
        ),
    ),
    Term(
        "macro-f1",
        _("macro-F1"),
        "macro-F1",
        _(
            "The F1 score of each label, averaged without regard to how frequent it is: rare labels"
            " count as much as frequent ones."
        ),
    ),
    Term(
        "manifest",
        _("run manifest"),
        "run manifest|manifest|Laufmanifest|Manifest",
        _(
            "The one text that fixes all that decides a run. Hospitals sign its hash; enclaves "
            "refuse anything else."
        ),
    ),
    Term(
        "masked",
        _("masked"),
        "masked|maskiert|maskierte",
        _("Hidden under a random number that is used once: the accelerator multiplies without seeing what."),
    ),
    Term(
        "measurement",
        _("measurement"),
        "measurements|measurement|Messwerte|Messwert",
        _("A hash of exactly what runs in an enclave. One changed line of code gives another one."),
    ),
    Term(
        "mrenclave",
        "MRENCLAVE",
        "MRENCLAVE",
        _("The measurement of an SGX enclave: what the processor hashed while it loaded the program."),
    ),
    Term(
        "mrtd",
        "MRTD",
        "MRTD|RTMR3|RTMRs|RTMR",
        _("The measurement of a TDX trust domain's image; RTMRs hold what was started in it afterwards."),
    ),
    Term(
        "quorum",
        _("quorum"),
        "quorum|Quorum",
        _("How many hospitals a round needs at least. With fewer nothing is averaged."),
    ),
    Term(
        "quote",
        _("quote"),
        "quotes|quote",
        _("What a processor signs about an enclave in it: its measurement, and a hash of its keys."),
    ),
    Term(
        "receipt",
        _("receipt"),
        "receipts|receipt|Belege|Beleg",
        _("An enclave's signed word about a round: what went in, what came out, and the receipt before it."),
    ),
    Term(
        "reference-value",
        _("reference value"),
        "reference values|reference value|Referenzwerte|Referenzwert",
        _("A measurement that people have looked at and accepted: what an enclave may run."),
    ),
    Term(
        "roster",
        _("roster"),
        "roster",
        _("Who contributes to a round, fixed and signed by the hospitals before anything is averaged."),
    ),
    Term(
        "sealed",
        _("sealed"),
        "sealed|versiegelt|versiegelte|versiegelten",
        _("Encrypted so that only one attested enclave, or one hospital, can open it."),
    ),
    Term(
        "spf",
        "SPF",
        "SPF",
        _(
            "Sparsification Parameter Fine-tuning, Method 2's way: only some attention heads and "
            "some rows of matrices are tuned."
        ),
    ),
    Term(
        "tcb",
        "TCB",
        "TCB",
        _(
            "Trusted computing base: all that has to be right for a promise to hold: processor, "
            "microcode, our code."
        ),
    ),
    Term(
        "tee",
        "TEE",
        "TEEs|TEE",
        _("Trusted execution environment: the hardware that makes enclaves (Intel SGX or TDX here)."),
    ),
    Term(
        "token",
        _("tokens"),
        "tokens|Tokens",
        _("What a model reads: words or parts of words. A sentence has some twenty."),
    ),
    Term(
        "witness",
        _("witness"),
        "witnesses|Zeugen",
        _("Somebody who signs the log's state, too, so that nobody can be shown another log."),
    ),
)


@cache
def pattern() -> re.Pattern[str]:
    """Any form of any term, as a whole word; each term's form is in the group of its place in TERMS."""
    parts = (f"(?P<t{number}>{_any_of(term.forms)})" for number, term in enumerate(TERMS))
    return re.compile(rf"(?<![\w-])(?:{'|'.join(parts)})(?![\w-])")


def _any_of(forms: str) -> str:
    written = (re.escape(form) for form in sorted(forms.split("|"), key=len, reverse=True))
    return "|".join(one if one.isupper() else f"(?i:{one})" for one in written)
