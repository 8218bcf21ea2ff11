"""Codes of releasing tuned parameters after a run (enclave/programs/releasing.py, federation/releases)."""

from error_catalogue.catalogue import Entry, define

define(
    Entry("release.not_allowed", "This run's release rule is {rule}: its parameters leave no enclave.",
          "The manifest fixes it. Run a study with the release rule sealed-to-sites or export.", "lead"),
    Entry("release.unfinished", "The run has not come to its end: nothing of it is released.",
          "Wait for the end of the run.", "lead"),
    Entry("release.no_state", "This enclave does not hold the run's parameters.",
          "It was started anew and has not got the sealed state back. The operator looks whether the last "
          "round's state is still in the blob store.", "operator"),
    Entry("release.wrong_receipt", "The sites have signed for other parameters than this enclave holds.",
          "Ask for the release again: the sites then sign for the last receipt of the run.", "lead"),
    Entry("release.bad_order", "The order of {site} is not signed by its key for these parameters.",
          "Run `python -m site_agent approve` at the hospital again.", "site"),
    Entry("release.too_few", "{found} orders count; the manifest demands {needed}.",
          "The other hospitals run `python -m site_agent approve`.", "site", retry=True),
    Entry("release.bad_statement", "The statement about the release cannot be read: {fault}.",
          "Let coordinator, enclaves and agents run the same release of FedSlice.", "operator"),
    Entry("release.mismatch", "The enclave's statement about the release does not fit in: {field}.",
          "Nothing was handed out. Tell us: the enclave does not do what it was measured to do.", "us"),
    Entry("release.missing_config", "The base model's config.json is not the one that the manifest pins.",
          "The operator registers the base model again, from the same files.", "operator"),
    Entry("release.not_asked", "No release of this run was asked for.",
          "Its lead asks for it on the page of the run.", "lead"),
    Entry("release.waiting", "The release waits for signatures: {found} of {needed}.",
          "The hospitals run `python -m site_agent approve`.", "site", retry=True),
    Entry("release.asked", "The release of this run has been asked for already.",
          "The page of the run says whom it waits for.", "lead"),
    Entry("release.gone", "The released file is no longer kept here.",
          "Released files are kept for {days} days. The lead can ask for the release again.", "lead"),
    Entry("release.not_for_us", "This site has not signed for the release, so nothing is sealed to it.",
          "Run `python -m site_agent approve`; the enclave then seals a copy to this site as well.", "site"),
    Entry("release.bad_package", "What was released is not a package that this agent knows: {fault}.",
          "Let coordinator and site agent run the same release of FedSlice.", "site"),
    Entry("release.folder_in_use", "The folder {folder} holds files already.",
          "Name a folder that does not exist or is empty.", "site"),
)  # fmt: skip
