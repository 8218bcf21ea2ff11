"""Codes of converting pickled checkpoints (enclave_host/converting, enclave_host/confinement)."""

from error_catalogue.catalogue import Entry, define

define(
    Entry("convert.nothing", "The folder has no pickled weights (none of {files}).",
          "Name a model's folder. A model in safetensors needs no conversion: register it.", "operator"),
    Entry("convert.exists", "{folder} exists already; nothing is written over.",
          "Name a folder that does not exist.", "operator"),
    Entry("convert.code",
          "{file} asks for {found} as it is read. That is code, not weights, and was not run.",
          "Do not load this file anywhere. Choose another source of the model; if it was saved as a whole "
          "model, ask for its state_dict.", "operator"),
    Entry("convert.damaged", "{file} cannot be read as a checkpoint: {fault}.",
          "Download it again, whole.", "operator"),
    Entry("convert.not_weights", "{file} holds something else than named tensors ({found}).",
          "Ask for a checkpoint that holds the model's state_dict alone.", "operator"),
    Entry("convert.bomb", "{file} would grow beyond its size as it is read: {fault}.",
          "Do not load this file anywhere. Choose another source of the model.", "operator"),
    Entry("child.no_sandbox", "The process that reads pickles cannot be locked down here: {fault}. Nothing "
          "was read.",
          "Install libseccomp2 and convert on Linux; a container must allow seccomp filters.", "operator"),
)  # fmt: skip
