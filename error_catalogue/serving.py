"""Codes of serving a tuned tail: sessions (enclave/programs/serving.py), their relay, and `predict`."""

from error_catalogue.catalogue import Entry, define

define(
    Entry("serving.not_allowed", "This run's release rule is {rule}: its model serves nobody.",
          "The manifest fixes it. Run a study with the release rule serve-only, sealed-to-sites or export.",
          "lead"),
    Entry("serving.not_ready", "The run has no trained model to serve yet.",
          "Wait for the end of its training.", "lead", retry=True),
    Entry("serving.another_past", "The served model is not the one that the site's last receipt names.",
          "An old or made-up state was brought to the enclave. Bring the blobs back that belong to the run's "
          "last receipt, and switch serving on again.", "operator"),
    Entry("serving.bad_opening", "The opening of a session is not one that this enclave can accept.",
          "It must be signed by a site of the manifest, for this enclave. The agent verifies the enclave "
          "again and opens another.", "site", retry=True),
    Entry("serving.too_many_sessions", "The site has {limit} sessions open already.",
          "End one of the programs that ask, or wait until one has been idle for a while.", "site",
          retry=True),
    Entry("serving.unknown_session", "The served model does not know this session.",
          "It was closed or idle for too long, or the enclave was started anew. The agent opens another and "
          "asks again.", "site", retry=True),
    Entry("serving.out_of_order", "Message {found} of the session came where {expected} was expected.",
          "Something between the site and the enclave repeats, drops or reorders messages. The agent opens "
          "another session; if it stays so, tell the operator.", "operator", retry=True),
    Entry("serving.bad_message", "Message {number} of the session was changed on its way.",
          "Something between the site and the enclave changes messages. The agent opens another session; if "
          "it stays so, tell the operator.", "operator", retry=True),
    Entry("serving.bad_question", "The served model cannot read the question: {fault}.",
          "Let site agent and coordinator run the same release.", "site"),
    Entry("serving.limit", "A session takes at most {limit} {unit}.",
          "Ask in smaller pieces, or open another session.", "site"),
    Entry("serving.off", "This run's model is not being served.",
          "Its lead switches serving on, on the page of the run.", "lead"),
    Entry("serving.starting", "The served model's enclave is being started.",
          "The agent waits and asks again by itself.", "operator", retry=True),
    Entry("serving.failed", "The served model's enclave could not be started: {why}.",
          "The operator looks at the supervisor's log; the lead then switches serving on again.", "operator"),
    Entry("serving.revoked", "Serving was revoked for this site.",
          "Ask the study's lead; the reason stands on the page of the run.", "lead"),
    Entry("serving.too_fast", "The site asked more than {limit} times in a minute.",
          "The agent waits and goes on by itself.", "site", retry=True),
    Entry("serving.not_method_2", "Only a model trained by Method 2 is served; this run is of {method}.",
          "Run the study with Method 2.", "lead"),
    Entry("serving.unfinished", "The run is {state}; only a finished run's model is served.",
          "Wait for the end of the run.", "lead"),
    Entry("serving.not_here", "{found} served models answer to {asked}; one is needed.",
          "Give the run's id or the first characters of its fingerprint; `predict --list` names them.",
          "site"),
    Entry("serving.lost", "The line to the served model broke {times} times without an answer between.",
          "Run the same command again: it goes on where it stopped.", "operator", retry=True),
    Entry("predict.nothing", "There is nothing to predict: {fault}.",
          "Give --text, or a file with one text a line, a JSON object a line, or CSV.", "site"),
    Entry("predict.pairs", "The model was trained on {kind}.",
          "Ask about pairs with --pair or --pair-column, about single texts without.", "site"),
    Entry("predict.other_output", "The file {file} holds answers to other questions than {input}.",
          "Name another output file, or remove this one.", "site"),
)  # fmt: skip
