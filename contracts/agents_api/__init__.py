"""The agents' API: what a hospital's agent asks of the coordinator over HTTPS, and what it is answered.

Each request is an `Endpoint`: the struct of its body and that of its answer, of which both ends read what the
other has sent. Neither end believes the other: an agent verifies what it is given, an enclave what it is
handed. A module for each area; no enclave loads any.
"""
