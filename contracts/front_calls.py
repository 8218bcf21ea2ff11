"""What a hospital's host may ask of its client slice behind a public front (contracts/program_calls.py)."""

from __future__ import annotations

from contracts.commitment import Committed, Held
from contracts.program_calls import Call, Nothing

COMMIT = Call("commit", Nothing, Committed)
"""What this instance says of the features that were handed in when it loaded."""
HELD = Call("held", Held, Nothing)
"""What the aggregator has answered to the features that this instance has committed to."""
