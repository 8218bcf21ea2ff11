"""The kinds of datasets, and which of them a task can use. Each kind is for one task.

A manifest says each site's kind; agent and enclave read no row of another one.
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["text-label", "pair-label", "text-labels", "token-tags", "prompt-response", "messages", "text"]
Task = Literal["sequence-classification", "token-classification", "causal-lm"]

SEVERAL: Kind = "text-labels"
"""A text with any number of labels, none among them: each is decided for itself."""
LABELLED: tuple[Kind, ...] = ("text-label", "pair-label", SEVERAL)
"""A text, or two, that a person has sorted into a class, or into several."""
TAGGED: Kind = "token-tags"
"""Words, each with a tag (IOB2): which of them are named entities, and of what type."""
CONVERSATIONS: tuple[Kind, ...] = ("prompt-response", "messages")
"""What a model is asked and is to answer: rendered by a chat template, learnt in the answers alone."""
KINDS: dict[Task, tuple[Kind, ...]] = {
    "sequence-classification": LABELLED,
    "token-classification": (TAGGED,),
    "causal-lm": (*CONVERSATIONS, "text"),
}

LANGUAGE = r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}"
"""A language as people say it on a card: the common forms of BCP 47 (RFC 5646)."""
