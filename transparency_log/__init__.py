"""The transparency log: an append-only record of what was accepted, refused, approved and released.

merkle.py is the tree (RFC 6962), checkpoint.py the signed tree head (C2SP), entry.py what stands in the log,
bundle.py the file by which an auditor checks it all again with no network and no database.
"""
