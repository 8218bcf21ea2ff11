"""Releases: tuned parameters of a finished run leave its enclave, as manifest and sites say.

The control plane asks, collects the sites' signatures, and records. The enclave counts them itself.
"""
