"""The kinds of datasets, and which of them a task can use. Each kind is for one task.

A manifest says each site's kind; agent and enclave read no row of another one.
"""

from typing import Literal

Kind = Literal["text-label", "pair-label", "text-labels", "token-tags", "prompt-response", "prompt-choices",
               "messages", "text"]  # fmt: skip
Task = Literal["sequence-classification", "token-classification", "causal-lm"]

SEVERAL: Kind = "text-labels"
"""A text with any number of labels, none among them: each is decided for itself."""
LABELLED: tuple[Kind, ...] = ("text-label", "pair-label", SEVERAL)
"""A text, or two, that a person has sorted into a class, or into several."""
TAGGED: Kind = "token-tags"
"""Words, each with a tag (IOB2): which of them are named entities, and of what type."""
CHOSEN: Kind = "prompt-choices"
"""A question with the answers that may be given to it, of which one is right."""
CONVERSATIONS: tuple[Kind, ...] = ("prompt-response", CHOSEN, "messages")
"""What a model is asked and is to answer: rendered by a chat template, learnt in the answers alone."""
KINDS: dict[Task, tuple[Kind, ...]] = {
    "sequence-classification": LABELLED, "token-classification": (TAGGED,),
    "causal-lm": (*CONVERSATIONS, "text"),
}  # fmt: skip
