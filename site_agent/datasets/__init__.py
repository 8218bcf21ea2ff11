"""Datasets at the site: reading a file, checking every row, keeping it, and the card that is published."""
