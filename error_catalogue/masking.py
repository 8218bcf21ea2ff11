"""Codes of masked products, pads and the accelerator (enclave/masking)."""

from error_catalogue.catalogue import Entry, define

define(
    Entry("masking.bad_weight", "A frozen layer of the base model holds values that are not numbers.",
          "Choose another base model; this one is damaged.", "lead"),
    Entry("masking.weights_changed", "The host's copy of the frozen layer {layer} is not the pinned one.",
          "Something at the site changes the public weights. Load the model again; if it stays so, look "
          "for who writes into the accelerator's folder.", "site"),
    Entry("masking.not_prepared", "The study names no prepared model, so no client slice of it can begin.",
          "It was frozen by an earlier version. Freeze and approve it again; where the base model was "
          "registered by an earlier version, too, register that again first.", "lead"),
    Entry("masking.other_preparation", "This hospital has prepared the base model itself, and what came out "
          "({made}) is not what the study names ({pinned}).",
          "The hospital takes no part in this run, and nothing was sent. Ask the lead and another hospital: "
          "agents and coordinator of one version come to the same. If all have one version, somebody has "
          "named other weights than the base model's.", "lead"),
    Entry("masking.prepared_differs", "The file {file} of the prepared model is not the one that the study "
          "names.",
          "The agent prepares the model again with the next job. If it stays so, look who writes into the "
          "site's state folder.", "site", retry=True),
    Entry("masking.bad_prepared", "The prepared model cannot be used: {fault}.",
          "The agent prepares the model again with the next job. If it stays so, the study names a prepared "
          "model that no version of ours makes: take no part in it, and tell us.", "site", retry=True),
    Entry("masking.no_passes", "This run puts masks on in C, and the library {pinned} is not here.",
          "Install the package fedslice-kernels from the coordinator's signed packages, or build it with the "
          "compiler that kernels/wheel.lock names; then start the client slice again.", "site", retry=True),
    Entry("masking.out_of_indices", "The run has more of {what} than there are one-time masks for.",
          "Start a new run: a new enclave draws a new key.", "us"),
    Entry("masking.pad_reused", "A one-time mask of step {step} was asked for a second time.",
          "The contribution was stopped before anything was sent. Start it again; if it stays so, tell us.",
          "us"),
    Entry("masking.pad_made_twice", "The pads of step {step} were made before.",
          "The contribution was stopped. Start it again; if it stays so, tell us.", "us"),
    Entry("masking.vault_full", "The vault of pads may hold {limit} bytes, and they are used up.",
          "Give the site's vault more disk, or prepare fewer steps at a time.", "site"),
    Entry("masking.no_disk", "The pads cannot be written to the site's disk ({fault}).",
          "Free some disk at the site, or allow the study fewer bytes of pads.", "site", retry=True),
    Entry("masking.vault_damaged", "The pads of step {step} that the host kept are not the ones made.",
          "Someone or something changed the vault's files. Start the contribution again with a fresh "
          "vault, and check the disk.", "site", retry=True),
    Entry("masking.wrong_product", "The accelerator {accelerator} answered a wrong product (layer {layer}, "
          "{direction}).",
          "The contribution was stopped and nothing was sent. Do not use this accelerator again before its "
          "memory and its owner were checked.", "site"),
    Entry("masking.ended", "Masked computation was ended here by an earlier failure.",
          "Start the client slice again; what failed stands before this in its log.", "site", retry=True),
    Entry("accelerator.not_started", "The accelerator could not be started: {fault}.",
          "Read accelerator.log in the run's folder at the site.", "site", retry=True),
    Entry("accelerator.distrusted", "The accelerator {accelerator} answered a wrong product before "
          "in this run.",
          "Check its memory and who owns it, then start the site agent again to use it again.", "site"),
    Entry("accelerator.bad_store", "The accelerator cannot use its folder of weights: {fault}.",
          "Let the agent prepare the model again.", "site"),
    Entry("accelerator.bad_channel", "The accelerator's channel cannot be used: {fault}.",
          "Start the accelerator again; it makes the channel's file.", "site", retry=True),
    Entry("accelerator.too_large", "A product of {bytes} bytes does not fit the accelerator's channel.",
          "Give the channel larger slots.", "site"),
    Entry("accelerator.wrong_answer", "The accelerator {accelerator} answered something else than was asked: "
          "{fault}.",
          "The contribution was stopped. Check that accelerator and client slice are of the same release.",
          "site"),
    Entry("accelerator.slow", "The accelerator {accelerator} did not answer within {seconds} seconds.",
          "It is alive. Look what else runs on it, or allow it more time.", "site", retry=True),
    Entry("accelerator.dead", "The accelerator {accelerator} shows no life any more.",
          "Start it again, then the contribution.", "site", retry=True),
)  # fmt: skip
