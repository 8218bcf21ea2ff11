"""Codes of tuning that starts from an adapter which an earlier study released."""

from error_catalogue.catalogue import Entry, define

define(
    Entry(
        "start.missing",
        "The released adapter that this run starts from was not given to the enclave.",
        "This is a fault of the machine that runs the enclave: install the same release as the enclave's, "
        "or tell us.",
        "us",
    ),
    Entry(
        "start.changed",
        "The file that tuning starts from is not the one that the hospitals approved.",
        "Nothing was trained. Somebody or something changed the file on its way: look who does. The study "
        "begins again with the right file.",
        "us",
    ),
    Entry(
        "start.unreadable",
        "The released adapter that this run starts from cannot be read.",
        "Choose another adapter for the study, or let it begin without one.",
        "lead",
    ),
    Entry(
        "start.other_parameters",
        "The released adapter that this run starts from has other parameters than this study tunes: "
        "{parameter}.",
        "Choose the same base model, rank, targets and tuned layers as the study that it comes from.",
        "lead",
    ),
    Entry(
        "start.bad_package",
        "This is not a package that FedSlice has released: {fault}.",
        "Choose the zip file as it was released, not unpacked and not packed again.",
        "lead",
    ),
    Entry(
        "start.not_lora",
        "No study can start from this release: it is of the kind {adapter}, not LoRA.",
        "SPF releases differences of rows, and P-Tuning v2 needs a second file for what stands before the "
        "head; neither fits another study. Choose a release of LoRA by Method 1.",
        "lead",
    ),
    Entry(
        "study.start_unknown",
        "The released adapter {sha256}… is not among those that you have brought.",
        "Upload it on the page of released adapters, or let the study begin without one.",
        "lead",
    ),
    Entry(
        "study.start_not_lora",
        "This study tunes {tuned} without LoRA, and a released adapter is LoRA: it cannot start from one.",
        "Choose LoRA, or let the study begin without a released adapter.",
        "lead",
    ),
    Entry(
        "study.start_unfit",
        "The released adapter does not fit this study ({what}): the adapter has {found}, the study {asked}.",
        "Choose in the study what the adapter has, or another adapter.",
        "lead",
    ),
)
