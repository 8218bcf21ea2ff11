"""What is tuned, and how it is trained; of a draft as of a manifest."""

from __future__ import annotations

from typing import Protocol

from contracts.manifest import Adapter, Lora, Prefix, PublicFront, Spf
from manifest_summary.facts import Fact, _
from manifest_summary.formatting import word
from translations.numbers import number


class Pace(Protocol):
    """What decides the learning rate: of a manifest's training, and of a draft."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def schedule(self) -> str: ...
    @property
    def warmup(self) -> float: ...


def tuned(adapter: Adapter, cut: int) -> list[Fact]:
    """What is tuned; `cut`: how many layers stay at the hospital (Method 2)."""
    if isinstance(adapter, Lora):
        return [
            Fact(_("Tuned"), _("LoRA, and the classification head where there is one")),
            *_pairs(adapter),
            Fact(_("Tuned modules"), ", ".join(adapter.targets), is_code=True),
        ]
    if isinstance(adapter, Prefix):
        return [Fact(_("Prefix before each layer (P-Tuning v2), in positions"), str(adapter.length))]
    ratio = _("%(ratio)g %%, %(select)s")
    heads = ratio % {"ratio": adapter.attention, "select": word(adapter.select)}
    rows = ratio % {"ratio": adapter.dense, "select": word(adapter.select)}
    facts = [
        Fact(_("Layers that stay at the hospital"), str(cut)),
        Fact(_("Tuned attention heads"), heads),
        Fact(_("Tuned dense rows"), rows),
        Fact(_("Dense rows of"), ", ".join(adapter.rows) or _("nothing"), is_code=True),
        Fact(_("LoRA on"), ", ".join(adapter.lora) or _("nothing"), is_code=True),
        *_pairs(adapter),
    ]
    if adapter.select == "random":
        facts.append(Fact(_("Seed of the random choice"), str(adapter.seed), is_code=True))
    return facts


def starting(start: object, receipt: object) -> list[Fact]:
    """What is said to be an earlier study's release, as the beginning; nothing where parameters are drawn."""
    if not start:
        return []
    text = _(
        "an adapter that is said to be an earlier study's, which nothing here proves: whoever made it may "
        "have chosen its numbers. It may remember texts of that study, and no noise of this one covers them; "
        "every hospital of this study gets it, readable"
    )
    facts = [
        Fact(_("Tuning starts from"), text),
        Fact(_("File of that adapter (SHA-256)"), str(start), is_code=True),
    ]
    named = Fact(_("Released for the receipt, as its package says"), str(receipt), is_code=True)
    return [*facts, named] if receipt else facts


def _pairs(adapter: Lora | Spf) -> list[Fact]:
    """How large LoRA is, how much it counts, and what training leaves out."""
    facts = [Fact(_("LoRA rank and alpha"), f"{adapter.rank}, {adapter.alpha}")]
    if adapter.rslora:
        facts.append(Fact(_("LoRA counts"), _("alpha / √rank (rsLoRA)")))
    if adapter.dropout:
        facts.append(Fact(_("LoRA dropout"), number(f"{100 * adapter.dropout:g} %")))
    return facts


def public_front(front: PublicFront | None) -> list[Fact]:
    """What a hospital's own machine computes in clear, and how much of it is looked at (Method 1)."""
    if front is None:
        return []
    below = _(
        "what the base model makes of its texts up to layer %(n)d: once, before the first round; only the "
        "layers after them are tuned"
    )
    again = _(
        "%(n)d rows that it trains on and %(n)d that it evaluates on, drawn secretly, after the hospital has "
        "committed to all; as many more each time that its enclave begins again"
    )
    return [
        Fact(_("A hospital's own machine computes in clear"), below % {"n": front.first}),
        Fact(_("Its enclave computes again"), again % {"n": front.sample}),
    ]


def learning_rate(pace: Pace) -> str:
    """The rate and its course."""
    text = f"{number(f'{pace.learning_rate:g}')}, {word(pace.schedule)}"
    if not pace.warmup:
        return text
    return text + _(", after a warm-up over %(share)g %% of the steps") % {"share": 100 * pace.warmup}


def early_end(patience: int) -> list[Fact]:
    """After how many rounds without progress the run ends; nothing where it does not."""
    after = _("%(n)d rounds without a lower loss on validation rows") % {"n": patience}
    return [Fact(_("Ends early after"), after)] if patience else []


def together(packing: object) -> list[Fact]:
    """Rows in one sequence; nothing where each stands by itself."""
    text = _("in sequences of %(tokens)s tokens, none of which looks at another row") % {"tokens": packing}
    return [Fact(_("Short rows stand together"), text)] if packing else []


def few_at_once(rows: object) -> list[Fact]:
    """How much of a batch goes through the model together; nothing where all of it does."""
    text = _("%(rows)s of a batch, whose gradients are added up") % {"rows": rows}
    return [Fact(_("Rows at a time"), text)] if rows else []


def computed_again(activations: object) -> list[Fact]:
    """What the backward pass does not find; nothing where it finds all."""
    text = _("activations are computed again in the backward pass")
    return [Fact(_("To save memory"), text)] if activations else []


def pull(strength: float) -> list[Fact]:
    """FedProx; nothing where it is off."""
    text = _("%(mu)s (FedProx): each step also goes back towards it") % {"mu": number(f"{strength:g}")}
    return [Fact(_("Pull towards what a round began with"), text)] if strength else []
