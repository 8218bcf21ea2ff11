"""Codes of cutting a model (enclave/slicing)."""

from error_catalogue.catalogue import Entry, define

define(
    Entry("slicing.unknown_architecture",
          "Models of the architecture {found} cannot be cut here. Supported: {supported}.",
          "Choose a model of a supported architecture, or the placement all_in_tee.", "lead"),
    Entry("slicing.unlisted_module",
          "The model's part {module} is a {found}, which is not on the list of what may run inside.",
          "The model differs from the known architecture. Choose another model, or tell us.", "lead"),
    Entry("slicing.frozen_inside", "The model's frozen tensor {name} would stay inside the enclave.",
          "The model differs from the known architecture. Choose another model, or tell us.", "lead"),
    Entry("slicing.trained_outside", "The tuned tensor {name} would lie outside the enclave.",
          "This is a fault of the program; nothing was sent. Tell us.", "us"),
    Entry("slicing.too_short",
          "A prefix of {length} leaves {usable} of {positions} positions; the study asks for {asked} tokens "
          "a row.",
          "Lower the tokens per row, or the prefix length.", "lead"),
    Entry("slicing.missing_tensor", "The base model's files hold no tensor {name}.",
          "Choose a complete model of this architecture and task.", "lead"),
    Entry("slicing.tensor_changed", "The base model's tensor {name} is not the one that the sites approved.",
          "Fetch the model again at this site; something changes its files while they are read.", "site"),
    Entry("slicing.embedding_changed",
          "An embedding vector that the agent handed in is not the pinned model's.",
          "Fetch the model again at this site; something changes its files while they are read.", "site"),
    Entry("slicing.no_embeddings", "The embedding vectors that the agent hands in cannot be read: {fault}.",
          "Let the agent fetch the model again; the vectors come from its files.", "site"),
)  # fmt: skip
