"""Keys, signatures, sealed streams and state, receipts, rosters: how secrets travel and actions are recorded.

docs/protocol.md specifies the formats. Neither torch nor Django is imported here.
"""
