"""What this hospital's datasets have told over all runs: who approved what, with which noise, of which rows.

Runs are counted when they are approved here, before the approval leaves; rounds that never ran are not given
back. Kept by a dataset's *lineage*, not its digest: rows that come back under another name are the same
people.
"""
