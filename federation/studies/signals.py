"""What the control plane tells those who build on it, after the commit. Receivers get ids only."""

from django.dispatch import Signal

# job_id: work on a base model was asked for.
model_job_asked = Signal()
# run_id: a run was launched; its server enclave is to be started.
run_launched = Signal()
# run_id: a run came to its end (finished, failed or cancelled); its server enclave is to be stopped.
run_ended = Signal()
