"""Sealed files, content-addressed: how they come up, where they lie, what they are to a run."""
