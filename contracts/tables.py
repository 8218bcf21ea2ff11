"""The bins that probabilities are counted in where tables of a test are told (docs/protocol.md)."""

from __future__ import annotations

TENTHS = 10
"""Of the probability of the label that is held the likeliest; the last bin has 1.0 as well."""
WIDTH = 0.25
LIMIT = 16.0
"""Of log-odds, bins of this width from −LIMIT to LIMIT; what is beyond counts at the end."""
ODDS = round(2 * LIMIT / WIDTH)
