"""Codes of the run manifest (contracts/manifest.py)."""

from error_catalogue.catalogue import Entry, define

define(
    Entry("manifest.too_large", "The run manifest has {bytes} bytes; at most {limit} are read.",
          "Ask the lead to make the study smaller.", "lead"),
    Entry("manifest.invalid", "The run manifest is not valid: {fault}.",
          "Ask the lead to correct the study and to freeze it again.", "lead"),
    Entry("runtime.unmeasured", "The image that measures the program in a {runtime} trust domain was not "
          "booted on hardware yet, so nothing of it is started or believed.",
          "Use the runtime sgx for hardware; development evidence stands in for trust domains.", "operator"),
    Entry("manifest.not_canonical", "The run manifest is not in canonical form, so its hash names nothing.",
          "Someone changed the manifest on its way. Fetch it again; if it stays so, tell the operator.",
          "operator", retry=True),
    Entry("manifest.older_format",
          "This was frozen in an older format of the run manifest: it can be read, but not launched.",
          "To run it again, the lead clones the study, or takes it back to draft, and freezes it again; the"
          " hospitals then approve today's format.", "lead"),
    Entry("manifest.unknown_site", "Site {site} is not a member of this run.",
          "Check that the agent is enrolled as the site that was invited.", "site"),
    Entry("manifest.hash_mismatch", "The manifest's hash is {found}, but {expected} was approved.",
          "Do not go on. Compare the fingerprint with the one that the site approved, and tell the operator.",
          "operator"),
    Entry("manifest.not_approved", "Site {site} has not approved this manifest with a valid signature.",
          "The site admin runs `python -m site_agent approve` at the hospital.", "site"),
)  # fmt: skip
