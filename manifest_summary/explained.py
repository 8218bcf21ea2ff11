"""What the words of a manifest's facts mean, a sentence each, for whoever reads one for the first time."""

from __future__ import annotations

from manifest_summary.facts import _


def explanation(name: str) -> str:
    """Of the fact with this name, in the language that is spoken; empty where the name is a hospital's, a
    program's or a file's."""
    return next((means() for known, means in _MEANS.items() if name in (known, _(known))), "")


_MEANS = {
    "Base model": lambda: _("the public model that is tuned; it knows nothing of your rows"),
    "Task": lambda: _("what the tuned model is for"),
    "Labels": lambda: _("the classes that it learns to tell apart"),
    "Labels read as one": lambda: _("spellings that hospitals use for the same class"),
    "What is learnt": lambda: _("which part of a text the model is trained to write by itself"),
    "Chat template": lambda: _("how a question and its answer are written as one text for the model"),
    "Tokens per text": lambda: _("how much of a text is read: a token is a word or a part of one"),
    "Method": lambda: _("where training happens: at each hospital, or in one server's enclave"),
    "Placement": lambda: _("which part of the computing is inside an enclave"),
    "Tuned": lambda: _("which few numbers of the model are changed; all others stay as they are"),
    "LoRA rank and alpha": lambda: _("LoRA adds small matrices to the model; their size and weight"),
    "LoRA counts": lambda: _("how much these matrices weigh beside the model's own"),
    "LoRA dropout": lambda: _("what each step leaves out, so that single rows are learnt less"),
    "Short rows stand together": lambda: _("less is padding; what is learnt stays the same"),
    "To save memory": lambda: _("it takes more time; what is learnt stays the same"),
    "Rows at a time": lambda: _("fewer take less memory in the enclave; what is learnt stays the same"),
    "Pull towards what a round began with": lambda: _(
        "keeps hospitals whose texts differ from drifting apart"
    ),
    "The next round's parameters": lambda: _("a mean can be taken as it is, or as the way to go"),
    "Tables of the test": lambda: _("where the model takes one label for another, in counts of all together"),
    "The model chooses answers": lambda: _("its choice is only compared with the right one, inside"),
    "The model writes answers": lambda: _("how good answers are that it writes itself, not only weighs"),
    "Tuning starts from": lambda: _("what an earlier study has learnt stands in the place of random numbers"),
    "File of that adapter (SHA-256)": lambda: _("each enclave begins with these very bytes, or not at all"),
    "Released for the receipt, as its package says": lambda: _(
        "where it comes from: this receipt of the earlier study stands in the log of its coordinator"
    ),
    "Tuned modules": lambda: _("the parts of the model that get such matrices"),
    "LoRA on": lambda: _("the parts of the model that get such matrices"),
    "Rounds": lambda: _("how often all hospitals' results are brought together"),
    "Epochs in a round": lambda: _("how often each row is looked at in a round"),
    "Batch size": lambda: _("how many rows make one step"),
    "Learning rate": lambda: _("how far a step changes the parameters"),
    "Precision": lambda: _("how exactly numbers are kept while computing"),
    "Seed": lambda: _("fixes what is random in training, so that it can be done again; never the noise"),
    "Seed of the random choice": lambda: _("fixes which heads and rows the random selection takes"),
    "Not before": lambda: _("an enclave whose clock shows an earlier time refuses to start"),
    "Averaging": lambda: _("how the hospitals' results become one"),
    "A hospital's change in a round is clipped to (L2 norm)": lambda: _(
        "no hospital moves the model further than this in a round, so that noise can cover it"
    ),
    "A hospital counts for at most (rows)": lambda: _("a large hospital does not outvote the others"),
    "Noise": lambda: _("randomness that hides what one hospital, or one row, has added"),
    "What epsilon is about": lambda: _("epsilon measures what noise still lets through: smaller tells less"),
    "What epsilon means": lambda: _("epsilon measures what noise still lets through: smaller tells less"),
    "Epsilon after the last round, at most": lambda: _("what the whole run may tell, by that measure"),
    "A round needs": lambda: _("with fewer hospitals nothing is averaged"),
    "A round waits for": lambda: _("after that time it goes on without who is late"),
    "A hospital's enclave may begin": lambda: _(
        "a restart is counted: who starts an enclave again asks again"
    ),
    "Of no effect": lambda: _("it stands in the manifest, and nothing of this method reads it"),
    "Ends early after": lambda: _("training stops by itself when it brings nothing more"),
    "Batches": lambda: _("from whose rows each step is drawn"),
    "In every round": lambda: _("what goes out sealed: only an attested enclave can open it"),
    "Once": lambda: _("what goes out sealed, a single time: only an attested enclave can open it"),
    "Readable by the coordinator": lambda: _("what is not sealed"),
    "Never": lambda: _("what no part of the system sends"),
    "What may come out": lambda: _("the rule by which tuned parameters may leave the enclaves"),
    "Who gets the tuned parameters": lambda: _("who can read them once they are out"),
    "What they may tell": lambda: _("models can repeat parts of what they were tuned on"),
    "Questions to it": lambda: _("who asks often enough learns what a model was tuned on"),
    "Before that": lambda: _("a person at so many hospitals signs for it; the enclave counts"),
    "Runtime": lambda: _("the kind of protected hardware that the enclaves run on"),
    "Trust root": lambda: _("whose signature makes evidence of such hardware believable"),
    "What that root is worth": lambda: _("whose signature makes evidence of such hardware believable"),
    "Accepted states of the platform": lambda: _("how up to date a processor's protection must be"),
    "Accepted advisories": lambda: _("known weaknesses of processors that are accepted all the same"),
    "Evaluation of the platform, at least": lambda: _("how new the maker's list of weaknesses must be"),
    "Oldest collateral, by kind of platform (evaluations, CRL numbers, times)": lambda: _(
        "collateral is the maker's word on a processor; an older one than this is refused"
    ),
    "Transparency log": lambda: _("a list that can only grow, in which all that happens is written"),
    "Witnesses": lambda: _("who else signs the log, so that nobody is shown another one"),
    "State between rounds, under a key in shares": lambda: _(
        "what an enclave keeps is sealed under a key that no one holds alone"
    ),
    "One-time pads on a hospital's disk, at most": lambda: _(
        "a pad is secret randomness that hides a number from the accelerator, used once"
    ),
    "Checks of each product of the accelerator": lambda: _(
        "the accelerator is not believed: its results are tried with secret numbers"
    ),
    "Prepared model": lambda: _(
        "the base model's frozen layers as whole numbers: your agent makes them from the base model's files "
        "itself, and takes no part in the run where it comes to another hash"
    ),
    "The accelerators belong to": lambda: _("who could look into the machine that does the heavy computing"),
    "Masks are put on by": lambda: _(
        "the same numbers come out as without it, sooner; an enclave that has another library refuses"
    ),
    "Prefix before each layer (P-Tuning v2), in positions": lambda: _(
        "learnt positions that stand before each text, in the place of changed weights"
    ),
    "A hospital's own machine computes in clear": lambda: _(
        "the lower layers are public, and the texts are its own: nothing is shown to others"
    ),
    "Its enclave computes again": lambda: _("a secret sample, so that nobody hands in something else"),
    "Not proven": lambda: _("what this design takes on trust"),
    "Layers that stay at the hospital": lambda: _("what is above them trains in the server's enclave"),
    "Tuned attention heads": lambda: _("the share of heads that is tuned, and how they are chosen"),
    "Tuned dense rows": lambda: _("the share of rows of matrices that is tuned, and how they are chosen"),
    "Dense rows of": lambda: _("the matrices whose rows these are"),
}
