"""What the control plane tells the conductor about releases, after the commit."""

from django.dispatch import Signal

# run_id: enough sites have signed, the enclave can let the parameters out.
release_ordered = Signal()
