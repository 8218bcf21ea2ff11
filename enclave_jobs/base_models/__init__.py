"""Base models: loaded once in a bounded child, and offered for what they were seen to do."""
