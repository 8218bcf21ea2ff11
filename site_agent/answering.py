"""Where an answer that a model writes ends, and how many tokens are asked for: whoever relays the questions
counts them, so their number is one of a few, and hides where the answer ended in between."""

from __future__ import annotations

from collections.abc import Sequence

LEAST = 16


def bucket(asked: int) -> int:
    """How many tokens are asked for where `asked` would do: 16, 32, 64 and so on."""
    return max(LEAST, 1 << (asked - 1).bit_length())


class GrowingAnswer:
    """What a model has written so far, as it is shown: up to the first of `stops`, and never half of a
    character or of what may become one of `stops`."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = [stop for stop in stops if stop]
        self._text, self._shown = "", 0
        self.ended = False

    def grow(self, text: str) -> str:
        """The answer is `text` now. What is to be shown after what was shown before."""
        if self.ended:
            return ""
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        self.ended = bool(found)
        self._text = text[: min(found)] if found else text
        upto = len(self._text)
        if not found:
            upto -= max((_begun(self._text, stop) for stop in self._stops), default=0)
            # Half of a character: the rest comes with the next token.
            upto = upto if not self._text.endswith("\ufffd") else min(upto, len(self._text.rstrip("\ufffd")))
        return self._show(upto)

    def rest(self) -> str:
        """What was held back, once nothing follows any more."""
        return self._show(len(self._text))

    def _show(self, upto: int) -> str:
        piece = self._text[self._shown : upto]
        self._shown = max(self._shown, upto)
        return piece


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    return next((many for many in range(len(stop) - 1, 0, -1) if text.endswith(stop[:many])), 0)
