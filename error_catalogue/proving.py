"""Codes of proving a base model before it is offered (enclave_host/proving, enclave_host/bounded)."""

from error_catalogue.catalogue import Entry, define

_AGAIN = "Fetch the model again, whole, and register it again."

define(
    Entry("model.lfs_pointer", "{file} is not the file itself but a pointer of Git LFS to it.",
          "Run `git lfs pull` in the model's folder, or download the file from the model's page.",
          "operator"),
    Entry("model.byte_order_mark", "{file} begins with a {encoding} byte order mark; JSON has none.",
          "Save {file} as UTF-8 without a mark.", "operator"),
    Entry("model.bad_json", "{file} is not JSON of the kind that models have: {fault}.", _AGAIN, "operator"),
    Entry("model.no_model_type", "{file} does not say which architecture the model has (model_type).",
          "Take config.json from the model's page, or add its model_type, such as bert.", "operator"),
    Entry("model.quantised", "The model is quantised ({file} has a quantization_config); its weights are not "
          "plain numbers.",
          "Register the model in float32, float16 or bfloat16.", "operator"),
    Entry("model.encoder_decoder", "The model has an encoder and a decoder ({kind}); FedSlice tunes encoders "
          "and decoders, not both in one.",
          "Choose an encoder, such as BERT, to sort texts, or a decoder, such as Llama, to write them.",
          "operator"),
    Entry("model.is_adapter", "The folder holds a PEFT adapter ({file}), no base model.",
          "Register the model that the adapter was made for; its name stands in {file}.", "operator"),
    Entry("model.is_gguf", "The model is a GGUF file ({file}), which is for running, not for tuning.",
          "Register the model that it was made of, as safetensors.", "operator"),
    Entry("model.not_a_file", "What the model's folder holds as {file} is no file: {fault}.",
          "Put the file itself there, and let the coordinator's account read it.", "operator"),
    Entry("model.not_safetensors", "{file} is not a safetensors file: {fault}.", _AGAIN, "operator"),
    Entry("model.truncated", "{file} is cut off: it has {bytes} bytes of {expected}.", _AGAIN, "operator"),
    Entry("model.tensor_twice", "The tensor {tensor} stands in {other} and again in {file}.",
          "Leave in the folder only the files of one checkpoint.", "operator"),
    Entry("model.index_wrong", "{file} and the files that it names do not agree on {count} tensors, the "
          "first of them {tensor}.", _AGAIN, "operator"),
    Entry("model.not_finite", "The tensor {tensor} in {file} holds {count} values that are not numbers (NaN "
          "or infinite).",
          "The checkpoint is damaged, or its training diverged. Choose another one.", "operator"),
    Entry("model.tensor_type", "The tensor {tensor} in {file} is of type {found}.",
          "Register the model in float32, float16 or bfloat16.", "operator"),
    Entry("model.larger_than_files", "The configuration describes {what}, but the files hold {held}.",
          "The configuration and the weights are not of one model: choose the whole checkpoint.", "operator"),
    Entry("model.missing_tensors", "{missing} of {count} parts of the model are missing from its files, the "
          "first of them {first}. They would be random.",
          "Choose the whole checkpoint, and one that was made for this task: only a classifier's head may be "
          "new.", "operator"),
    Entry("model.unexpected_tensors", "The files hold {unexpected} tensors that the architecture has no "
          "place for, the first of them {first}.",
          "Check that config.json belongs to these weights.", "operator"),
    Entry("model.prefixed_tensors", "The tensors' names begin with “{prefix}” (as {first} does), which the "
          "architecture does not know; every weight would be random.",
          "The checkpoint was saved from a wrapper such as DistributedDataParallel. Save the wrapped model "
          "itself with save_pretrained.", "operator"),
    Entry("model.tensor_shape", "The tensor {tensor} has the shape {found}; config.json asks for {expected}.",
          "Check that config.json belongs to these weights; after tokens were added, save the model again.",
          "operator"),
    Entry("model.no_tokenizer", "The model's folder has no tokenizer that knows a word (none of {files}).",
          "Put the tokenizer's files beside the weights.", "operator"),
    Entry("model.tokenizer_beyond", "The tokenizer has {count} tokens beyond the model's {rows} embeddings, "
          "among them {token} with the number {id}.",
          "Use the tokenizer that belongs to these weights, or resize the model's embeddings to it and save "
          "both.", "operator"),
    Entry("model.other_tokenizer", "The tokenizer knows {tokens} tokens, the model has {rows} embeddings: it "
          "is another model's.",
          "Use the tokenizer that belongs to these weights.", "operator"),
    Entry("model.no_padding", "The tokenizer has neither a padding token nor an end of text to stand in for "
          "it.",
          "Name its pad_token in tokenizer_config.json.", "operator"),
    Entry("model.bad_template", "The tokenizer's chat template cannot be rendered: {fault}.",
          "Fix or remove chat_template in tokenizer_config.json.", "operator"),
    Entry("model.positions", "The model says that it reads {claimed} tokens, but {usable} cannot be read: "
          "{fault}.",
          "Check max_position_embeddings in config.json.", "operator"),
    Entry("model.not_reducible", "The model does not fit into the memory here, and no layer of each kind can "
          "be tried instead: {fault}.",
          "Register it on a machine with more memory.", "operator"),
    Entry("model.no_way", "The model can be tuned in no way that FedSlice has: {reason}",
          "Choose another architecture, or name LoRA's targets with --targets.", "operator"),
    Entry("model.reads_both_ways", "{architecture} reads a text in both directions; it cannot write one.",
          "Register it to sort texts, or choose a model that writes.", "operator"),
    Entry("model.one_layer", "A model of one layer cannot be split.",
          "Choose Method 1, or a deeper model.", "lead"),
    Entry("model.pass_failed", "A pass through the model ({way}) failed: {fault}.",
          "The architecture cannot be tuned in this way. Choose another method or model.", "lead"),
    Entry("model.pass_not_finite", "A pass through the model gives values that are not numbers ({where}).",
          "Choose another model, or another way to tune it.", "lead"),
    Entry("model.no_gradient", "What would be tuned does not change what the model answers.",
          "Choose other targets, or another way to tune the model.", "lead"),
    Entry("model.not_tried", "This way was not tried when the model was registered.",
          "The operator registers the model again.", "operator"),
    Entry("model.no_proof", "The model was registered before registrations were proven, or its proof cannot "
          "be read.",
          "The operator registers it again: python manage.py register_model SOURCE.", "operator"),
    Entry("child.timeout", "The work on the model did not end within {seconds} seconds and was stopped.",
          "Try again on a quieter or faster machine.", "operator", retry=True),
    Entry("child.memory", "The work on the model needs more than the {memory} MiB of memory that it may use.",
          "Free some memory, or use a machine with more.", "operator", retry=True),
    Entry("child.no_room", "The disk for temporary files has no room for the model ({fault}).",
          "Free some disk, or let TMPDIR name a larger one.", "operator", retry=True),
    Entry("child.killed", "The process that worked on the model was killed ({signal}); it may use {memory} "
          "MiB of memory.",
          "If the machine was short of memory, free some and try again; else the model may be damaged.",
          "operator", retry=True),
    Entry("child.failed", "The process that worked on the model failed: {fault}.",
          "The process's log has more. If the model is sound elsewhere, tell us.", "us"),
)  # fmt: skip
