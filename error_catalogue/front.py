"""Codes of a public front in Method 1: features that a site's own host computes in clear."""

from error_catalogue.catalogue import Entry, define

define(
    Entry("front.no_features", "The client slice was not given the features of this run.",
          "Behind a public front it is loaded with a file of features, and otherwise without. This is a "
          "fault of the site agent: install the same release as the enclave's, or tell us.", "site"),
    Entry("front.no_layer", "The model has {layers} layers; none is left to be tuned from number {first} on.",
          "Leave fewer layers to the hospitals' own machines.", "lead"),
    Entry("front.wrong_size", "The file of features has {found} bytes, and {bytes} belong to these rows.",
          "It was made for another model or dataset, or is damaged. Remove the folder features/ of the "
          "agent's state: it computes them again.", "site"),
    Entry("front.not_finite", "A feature is not a number.",
          "The machine that computed it is at fault, or the base model is. Remove the folder features/ of "
          "the agent's state, and look at the memory of that machine.", "site"),
    Entry("front.beyond_bound", "A feature is beyond {limit}, far from what this base model makes of texts.",
          "The machine that computed it is at fault. Remove the folder features/ of the agent's state, and "
          "look at the memory of that machine.", "site"),
    Entry("front.changed", "The features of a row are others than this hospital's enclave has committed to.",
          "Somebody or something writes into the file of features. Nothing was sent. Look who does; the "
          "enclave goes on with the file as it was.", "site"),
    Entry("front.not_committed", "The enclave of site {site} brings no good commitment to its features.",
          "Install the same release at the hospital as at the coordinator; if it stays so, tell us.", "site"),
    Entry("front.another_commitment", "Site {site} comes with other features than before in this run.",
          "A run keeps the features that it began with: put the file back that it began with (runs/ in the "
          "agent's state). Without it, this hospital's part in the run is over; another run begins again.",
          "site"),
    Entry("front.not_held", "The aggregator has not answered that it holds this hospital to its features.",
          "Nothing was sent. The agent asks to be admitted again; if it stays so, the coordinator changes "
          "the aggregator's answers.", "operator"),
    Entry("front.wrong_features", "Features of this hospital are not what the base model makes of its rows.",
          "Its part in this run ends. The agent has removed them, and computes them again for the next run. "
          "Look at the memory and drivers of the machine that computed them, and who can write to its disk.",
          "site"),
    Entry("front.tuned_below", "{name} was to be tuned, and lies below layer {first}, where features are "
          "public.", "The contribution was refused. Its enclave is not of this release: tell us.", "us"),
    Entry("front.not_own_accelerator", "This run is for accelerators of the hospitals themselves, and "
          "nobody has said that this one is.",
          "If the machine that multiplies belongs to the hospital, set {variable}=site and start the agent "
          "again. If it is somebody else's, ask the lead for a study without a public front.", "site"),
)  # fmt: skip
