"""The supervisor: a process of its own that owns the server enclaves, so that a dead Celery worker loses no
keys.

It listens on loopback TCP, or elsewhere by mutual TLS (`tls.py`), and speaks the frames of
`enclave/programs/wire.py`; `client.py` is its other end.
It stands outside every trust boundary: it moves sealed files and sees no plaintext.
"""
