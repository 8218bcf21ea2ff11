"""The enclave's half of development evidence: what plays a processor and its quoting enclave in its process.

Loaded under the runtimes development and direct alone; the root and its certificates stand outside, in
attestation/development.
"""
