"""A confidential GPU beside a trust domain: its evidence, appraised by checks in the same order and form.

On paper so far (docs/decisions/0040): no program asks a GPU, no manifest names one, and nothing loads this
but its tests. It is the interface that a tail on such a GPU is to be built against.
"""

from attestation.confidential_gpu.appraisal import GPU_CHECKS, appraise_gpu
from attestation.confidential_gpu.evidence import GpuEvidence, GpuReference, nonce_for

__all__ = ["GPU_CHECKS", "GpuEvidence", "GpuReference", "appraise_gpu", "nonce_for"]
