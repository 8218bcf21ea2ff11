"""How long, by which rules, and what may come out."""

from __future__ import annotations

import re
from typing import Any, ClassVar, get_args

from django import forms
from django.conf import settings
from django.utils.functional import lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from contracts.kinds import CHOSEN
from contracts.manifest import UNMEASURED
from contracts.policy import TcbStatus
from error_catalogue import explain
from federation.studies.methods import named as planned
from federation.studies.models import Study
from federation.studies.searched import SEARCHED, kind_of
from frontend.forms.wizard.step import StepForm, number
from frontend.methods import named
from manifest_summary.formatting import word
from translations.numbers import number as decimal

_word = lazy(word, str)  # in the language of who reads the form
RELEASES = [(name, _word(name)) for name in ("nothing", "serve-only", "sealed-to-sites", "export")]


SEARCHED_FOR = {
    "lora": _("LoRA at every linear layer"),
    "prefix": _("P-Tuning v2"),
    "spf": _("SPF behind the third of six layers"),
}
"""By kind of adapter what was tuned in the search (federation/studies/searched.py)."""


class TrainingForm(StepForm):
    rounds = number(_("Rounds"), 1, 1000)
    local_epochs = number(_("Epochs in a round"), 1, 100)
    batch_size = number(_("Batch size"), 1, 1024)
    learning_rate = forms.FloatField(
        label=_("Learning rate"), min_value=1e-7, max_value=1, widget=forms.NumberInput({"step": "any"})
    )
    schedule = forms.ChoiceField(
        label=_("Learning rate over the run"),
        choices=[(name, _word(name)) for name in ("constant", "linear", "cosine")],
    )
    warmup = forms.FloatField(
        label=_("Warm-up (% of all steps)"), min_value=0, max_value=100,
        help_text=_("The learning rate rises from 0 over these steps. 5 to 10 % steadies large models."),
        widget=forms.NumberInput({"step": "any"}),
    )  # fmt: skip
    patience = number(
        _("End early after (rounds)"), 0, 1000,
        _("So many rounds in which the loss on validation rows has not fallen. 0: train all rounds."),
    )  # fmt: skip
    seed = number(_("Seed"), 0, 2**53 - 1, _("The same seed gives the same run."))
    rule = forms.ChoiceField(
        label=_("How updates are averaged"),
        choices=(
            ("fedavg", _("FedAvg (the paper's): each factor by itself")),
            ("ffa-lora", _("FFA-LoRA: one factor stays, so the mean is exact")),
            ("stack-svd", _("stacking and SVD: the products' mean, cut to the rank")),
        ),
    )
    clip = forms.FloatField(
        label=_("Clip a hospital's change to (L2 norm)"), min_value=1e-6, max_value=1e6, required=False,
        help_text=_("Empty: no bound. Noise per hospital needs one."),
        widget=forms.NumberInput({"step": "any"}),
    )  # fmt: skip
    max_samples = number(
        _("A hospital counts for at most (rows)"), 1, 2**40 - 1, _("Empty: for all of its rows."),
        required=False,
    )  # fmt: skip
    server_optimizer = forms.ChoiceField(
        label=_("What the server makes of the mean"),
        choices=(
            ("none", _("the next round's parameters, as it is")),
            ("fedavgm", _("FedAvgM: a step with momentum")),
            ("fedadam", _("FedAdam: a step that adapts to each parameter")),
            ("fedyogi", _("FedYogi: the same, and slower to grow")),
        ),
        help_text=_("It steadies runs whose hospitals differ much. In few rounds, none is best."),
    )
    server_learning_rate = forms.FloatField(
        label=_("The server's learning rate"), min_value=1e-7, max_value=10, required=False,
        help_text=_("Empty: 1 for FedAvgM, else 0.01."), widget=forms.NumberInput({"step": "any"}),
    )  # fmt: skip
    server_beta1 = forms.FloatField(
        label=_("The server's momentum (β₁)"), min_value=0, max_value=0.999999,
        widget=forms.NumberInput({"step": "any"}),
    )  # fmt: skip
    server_beta2 = forms.FloatField(
        label=_("The server's β₂"), min_value=0, max_value=0.999999,
        widget=forms.NumberInput({"step": "any"}),
    )  # fmt: skip
    server_tau = forms.FloatField(
        label=_("The server's τ"), min_value=1e-9, max_value=1,
        help_text=_("The larger, the less it adapts."), widget=forms.NumberInput({"step": "any"}),
    )  # fmt: skip
    proximal = forms.FloatField(
        label=_("Pull towards the round's beginning (FedProx's μ)"), min_value=0, max_value=1000,
        help_text=_("0: none. 0.001 to 1 keeps hospitals whose texts differ from drifting apart."),
        widget=forms.NumberInput({"step": "any"}),
    )  # fmt: skip
    packing = number(
        _("Put short rows together in sequences of (tokens)"), 0, 8192,
        _("Less of a batch is padding; what is learnt stays the same. As long as the texts, or longer. "
          "0: no."),
        required=False,
    )  # fmt: skip
    at_once = number(
        _("Rows of a batch at a time"), 0, 1024,
        _("Fewer take less memory in the TEE; what is learnt stays the same. 0: the whole batch."),
        required=False,
    )  # fmt: skip
    checkpointing = forms.BooleanField(
        label=_("Compute activations again instead of keeping them"), required=False,
        help_text=_("Less memory in the TEE, more time."),
    )  # fmt: skip
    privacy = forms.ChoiceField(
        label=_("Noise (differential privacy)"),
        choices=(
            ("none", _("none")),
            ("site", _("per hospital: in the server enclave, on each mean")),
            ("record", _("per row: in each hospital's enclave, on each step")),
        ),
    )
    noise = forms.FloatField(
        label=_("Noise, in sensitivities"), min_value=0.01, max_value=1000,
        widget=forms.NumberInput({"step": "any"}),
    )  # fmt: skip
    delta = forms.FloatField(
        label=_("Delta"), min_value=1e-300, max_value=0.1, widget=forms.NumberInput({"step": "any"})
    )
    gradient_clip = forms.FloatField(
        label=_("Clip a row's gradient to (L2 norm)"), min_value=1e-6, max_value=1e6,
        help_text=_("For noise per row."), widget=forms.NumberInput({"step": "any"}),
    )  # fmt: skip
    quorum = number(
        _("Quorum"), 1, 1000, _("Fewest hospitals in a round. Empty: all of them."), required=False
    )
    deadline_seconds = number(
        _("A round waits for (seconds)"), 10, 7 * 24 * 3600,
        _("After that it goes on with those who came, if they are a quorum."),
    )  # fmt: skip
    cells = forms.TypedChoiceField(
        label=_("Tables of the test: confusion matrix, calibration, AUROC"), coerce=int,
        choices=(
            (0, _("none")),
            (5, _("counts in multiples of 5")),
            (10, _("counts in multiples of 10")),
            (20, _("counts in multiples of 20")),
        ),
        help_text=_("Of all hospitals together. With noise, and of models that write, none are told."),
    )  # fmt: skip
    written_rows = number(
        _("Answers that the model writes, of each hospital's rows"), 0, 256,
        _("A sample, the same in each round, held against the true answers (token F1, ROUGE-L). 0: none."),
    )  # fmt: skip
    written_tokens = forms.TypedChoiceField(
        label=_("Tokens of a written answer"), coerce=int,
        choices=[(n, str(n)) for n in (16, 32, 64, 128, 256)],
        help_text=_("So many are computed of each, as the time it takes is seen."),
    )  # fmt: skip
    release = forms.ChoiceField(label=_("What may come out"), choices=RELEASES)
    release_approvals = number(
        _("Hospitals that must sign a release"), 1, 1000, _("Empty: all of them."), required=False
    )
    answers = number(
        _("Answers of a served model, for each hospital"), 0, 2**40 - 1,
        _("Labels, or tokens that are written, of one enclave; 16 of these at most serve. 0: no bound."),
        required=False,
    )  # fmt: skip
    runtime = forms.ChoiceField(label=_("Runtime of the enclaves"))
    accepted_statuses = forms.MultipleChoiceField(
        label=_("Accepted states of a platform"), choices=[(s, s) for s in get_args(TcbStatus)],
        widget=forms.CheckboxSelectMultiple,
        help_text=_("What Intel says of a platform's updates. Each more than UpToDate accepts known flaws."),
    )  # fmt: skip
    accepted_advisories = forms.CharField(
        label=_("Accepted advisories"), required=False, max_length=4000,
        help_text=_("Intel's numbers (INTEL-SA-00615), apart by spaces: those that a platform in another "
                    "state may have open."),
    )  # fmt: skip

    TRAINING: ClassVar = ("rounds", "local_epochs", "batch_size", "learning_rate", "schedule")
    AVERAGING: ClassVar = ("rule", "clip", "max_samples", "server_optimizer")
    STEP: ClassVar = ("server_learning_rate", "server_beta1")
    ADAPTS: ClassVar = ("server_beta2", "server_tau")
    WRITING: ClassVar = ("written_rows", "written_tokens")
    PRIVACY: ClassVar = ("privacy", "noise", "delta", "gradient_clip")
    RULES: ClassVar = ("quorum", "release", "runtime")
    PARTS: ClassVar = (
        (_("Training"), TRAINING, ()),
        # What describes a choice is shown where it is made.
        (
            _("Averaging"), AVERAGING,
            (
                ("server_optimizer=fedavgm|fedadam|fedyogi", STEP),
                ("server_optimizer=fedadam|fedyogi", ADAPTS),
            ),
        ),
        (_("Noise"), PRIVACY[:1], (("privacy=site|record", PRIVACY[1:]),)),
        (_("Rounds and release"), RULES, ()),
    )  # fmt: skip
    MORE: ClassVar = (
        "warmup",
        "patience",
        "proximal",
        "packing",
        "at_once",
        "checkpointing",
        "seed",
        "deadline_seconds",
        "release_approvals",
        "answers",
        "cells",
        *WRITING,
    )
    PLATFORM: ClassVar = ("accepted_statuses", "accepted_advisories")

    @property
    def parts(self) -> list[dict[str, Any]]:
        """Cards of fields, for the template."""
        return [
            {
                "title": title,
                "fields": self._there(names),
                "details": [(when, self._there(these)) for when, these in details],
            }
            for title, names, details in self.PARTS
            if self._there(names)
        ]

    @property
    def more(self) -> list[forms.BoundField]:
        """The fields of the disclosure that few need."""
        return self._there(self.MORE)

    @property
    def more_open(self) -> bool:
        """Whether something in the disclosure has to be fixed: then it is open."""
        return any(name in self.errors for name in (*self.MORE, *self.PLATFORM))

    def _there(self, names: tuple[str, ...]) -> list[forms.BoundField]:
        return [self[name] for name in names if name in self.fields]

    def stored(self, study: Study | None) -> dict[str, Any]:
        stored = super().stored(study)
        return {
            **stored,
            "warmup": f"{stored.get('warmup', 0) * 100:g}",
            "accepted_advisories": " ".join(stored.get("accepted_advisories") or ()),
        }

    def changes(self) -> dict[str, Any]:
        changes = super().changes()
        changes["warmup"] = changes["warmup"] / 100
        changes["accepted_advisories"] = self.cleaned_data["accepted_advisories"]
        return changes

    def prepare(self) -> None:
        self.fields["runtime"].choices = [  # type: ignore[attr-defined]
            (name, name) for name in settings.ENCLAVE_RUNTIMES if name not in UNMEASURED
        ]
        if self.plan.get("task", "sequence-classification") == "sequence-classification":
            kind = kind_of(self.plan.get("method", "method-1"), self.plan.get("adapter", "lora"))
            said = _(
                "A draft begins with what was searched on validation rows of small encoders, for %(what)s: "
                "%(rate)s, %(rounds)d rounds."
            )
            found = SEARCHED[kind]
            facts = {"what": SEARCHED_FOR[kind], "rounds": found.rounds}
            rate = decimal(f"{found.learning_rate:g}")
            self.fields["learning_rate"].help_text = said % {**facts, "rate": rate}
        if not named(self.plan.get("method")).averages:
            for name in (*self.AVERAGING, *self.STEP, *self.ADAPTS, *self.PRIVACY, "proximal"):
                del self.fields[name]
        if not planned(str(self.plan.get("method", "method-1"))).serves:
            del self.fields["answers"]
        if (why := self.not_served()) and self.plan.get("release") != "serve-only":
            release: Any = self.fields["release"]
            release.choices = [choice for choice in RELEASES if choice[0] != "serve-only"]
            release.error_messages["invalid_choice"] = explain(why, {}).message
        if not self.writes() and not self.plan.get("written_rows"):
            for name in self.WRITING:
                del self.fields[name]
        if not self.packs() and not self.plan.get("packing"):
            del self.fields["packing"]
        plan = self.plan
        lora = (plan.get("method", "method-1"), plan.get("adapter", "lora")) == ("method-1", "lora")
        if not lora or plan.get("placement", "all_in_tee") == "masked":
            del self.fields["checkpointing"]  # Method 2 has it where the tail is described

    def packs(self) -> bool:
        """Whether rows can stand together (contracts/manifest_options.py)."""
        split, prefix = self.plan.get("method") == "method-2", self.plan.get("adapter") == "prefix"
        return self.plan.get("task") == "causal-lm" and (split or not prefix)

    def clean_at_once(self) -> int:
        return self.cleaned_data["at_once"] or 0

    def clean_packing(self) -> int:
        """Room for one row at least."""
        packing, longest = self.cleaned_data["packing"] or 0, self.plan.get("max_tokens", 128)
        if packing and not self.packs():
            raise forms.ValidationError(_("Rows are put together where a model writes, with LoRA or SPF."))
        if packing and packing < longest:
            raise forms.ValidationError(_("A row has up to %d tokens: no less, or 0.") % longest)
        return packing

    def writes(self) -> bool:
        """Whether the plan's enclaves have what writing answers takes (contracts/manifest_options.py)."""
        plan = self.plan
        return (
            plan.get("task") == "causal-lm"
            and plan.get("method", "method-1") == "method-1"
            and plan.get("placement", "all_in_tee") != "masked"
            and plan.get("adapter", "lora") == "lora"
            and not plan.get("front")
            and not (self.study and self.study.datasets.filter(card__kind=CHOSEN).exists())
        )

    def not_served(self) -> str | None:
        """Why no enclave could serve what the plan makes: the code that freezing would refuse it by."""
        if self.plan.get("task") == "token-classification":
            return "study.tags_not_served"
        serves = planned(str(self.plan.get("method", "method-1"))).serves
        return None if serves else "study.method_not_served"

    def clean_quorum(self) -> int | None:
        return self._at_most_all("quorum")

    def clean_release_approvals(self) -> int | None:
        return self._at_most_all("release_approvals")

    def clean_answers(self) -> int:
        return self.cleaned_data["answers"] or 0

    def _at_most_all(self, name: str) -> int | None:
        count: int | None = self.cleaned_data[name]
        members = self.study.datasets.count() if self.study else 0
        if count is not None and members and count > members:
            raise forms.ValidationError(
                ngettext("The study has %d hospital.", "The study has %d hospitals.", members) % members
            )
        return count

    def clean_accepted_advisories(self) -> list[str]:
        found = self.cleaned_data["accepted_advisories"].replace(",", " ").upper().split()
        strange = [one for one in found if not re.fullmatch(r"[A-Z0-9-]{1,32}", one)]
        if strange:
            raise forms.ValidationError(_("This is not the number of an advisory: %s") % strange[0][:40])
        return list(dict.fromkeys(found))

    def clean(self) -> dict[str, Any]:
        """What does not go together is said at the field that can fix it."""
        cleaned = super().clean() or {}
        rule, privacy = cleaned.get("rule"), cleaned.get("privacy")
        if cleaned.get("release") == "serve-only" and (why := self.not_served()):
            self.add_error("release", explain(why, {}).message)
        if rule in ("ffa-lora", "stack-svd") and self.plan.get("adapter") == "prefix":
            self.add_error("rule", _("This rule is for LoRA; a prefix is averaged by FedAvg."))
        if privacy == "site" and cleaned.get("clip") is None and "clip" not in self.errors:
            self.add_error("clip", _("Noise per hospital needs a bound on a hospital's change."))
        if privacy == "site" and rule == "stack-svd":
            self.add_error("rule", _("Noise per hospital goes with FedAvg or FFA-LoRA."))
        if cleaned.get("server_optimizer", "none") != "none" and rule == "stack-svd":
            message = _(
                "Stacking and SVD turns the factors again each round; a server's step needs them to stand."
            )
            self.add_error("server_optimizer", message)
        if rule == "ffa-lora" and cleaned.get("release") in ("sealed-to-sites", "export"):
            self.add_error("release", _("With FFA-LoRA no parameters can come out; choose another mean."))
        if privacy == "record" and (cleaned.get("schedule"), cleaned.get("warmup")) != ("constant", 0):
            field = "schedule" if cleaned.get("schedule") != "constant" else "warmup"
            self.add_error(field, _("Noise per row goes with a constant learning rate, without warm-up."))
        if privacy == "record" and cleaned.get("packing"):
            self.add_error("packing", _("Noise per row takes each row by itself."))
        if privacy == "record" and self.plan.get("front"):
            message = _(
                "Noise per row draws rows secretly; behind a public front a hospital's machine sees which."
            )
            self.add_error("privacy", message)
        if privacy == "record" and self.plan.get("placement") == "masked":
            self.add_error("privacy", _("Noise per row draws rows at random; no pads can be made for that."))
        if cleaned.get("written_rows") and not self.writes():
            message = _(
                "Answers are written where an enclave has all of the model, with LoRA: not masked, not "
                "split; and where they are not chosen."
            )
            self.add_error("written_rows", message)
        return cleaned
