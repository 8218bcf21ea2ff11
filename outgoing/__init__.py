"""Outgoing HTTPS: which proxy, whom to trust, and what went wrong in plain words.

One answer for every caller (the agent's transport and its checks, the coordinator's fetching of
collateral), so that a green check means that the transport works. A setting that cannot be used is refused by
a code that names its variable; no library ever sees it.
"""
