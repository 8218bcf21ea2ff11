"""The words for people in other languages than English: which one is spoken, and its catalogues.

All German lies in `locale/de`, a catalogue (gettext's .po) for each of the rooms that speak. No enclave loads
this, it knows no Django, and nothing that is signed, hashed, logged or read by a machine goes through it.
"""
