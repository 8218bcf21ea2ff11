"""Serving: the trained tail of a Method 2 run answers its sites' sealed questions, until its lead stops it.

The control plane switches, relays and counts. It never holds a key, a feature or an answer.
"""
