"""What the control plane tells the conductor about serving, after the commit."""

from django.dispatch import Signal

# run_id: serving was switched on or off, or a site was revoked or allowed again.
serving_changed = Signal()
