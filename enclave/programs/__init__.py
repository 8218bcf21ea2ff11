"""The programs that run in a TEE; the host's side is `enclave_host/process.py`.

A host starts a program, which connects back over loopback (`wire`) and then answers
one request at a time (`program`). Sealed files go through a folder (`mailbox`). The operations, each with a
struct for its arguments and one for its result (`contracts/*_calls.py`):

| all | `ping`, `bind` {manifest, approvals}, `evidence` {nonce}, `stop` |
| aggregator | `challenge` {site}, `admit` {site, evidence, endorsement}, `inspect` {round, site, sha256},
  `aggregate` {round, roster, countersignatures}, `reissue`, `restore` {state}, `status` |
| client_slice | `challenge`, `admit` {evidence, logged}, `load` {model, dataset, site, key, features},
  `train` and `evaluate` {round, previous: null or {sha256, receipt, reissue}} |
| client_slice, placement `masked` | `accelerate` {channel, room}, `prepare` {round} (`slice_offloaded`) |
| client_slice, behind a public front | `commit`, `held` {begun, signature} (`slice_front`) |
| split_server | `prepare` {model}, `features` {site, keys}, `train` and `evaluate` {round, roster,
  countersignatures}, `restore` {state}, `status` |
| split_server, where the rule of release is not `nothing` | `share` {site, sealed}, `serve` and `release`
{receipt, release_approvals}, `open` {opening}, `step` {session, number, sealed, more}, `close` {session},
`revoke`
  {sites}, `meters` |
| aggregator, where the rule lets parameters out | `release` {receipt, release_approvals, model} |

Inside, in the order in which a run meets them: `identity` (bound once, keys, evidence), `admission` (who is
let in), `learner` and `client_rounds` (a site's rounds), `history` (which receipts a site believes),
`contributions` (what it seals), `opening` (how that is read), `template` (which tensors that may be),
`rounds` (aggregation) and `round_ledger` (receipts), `run_checkpoint` (sealed state). In a split server:
`tail` (what it learns with), `feature_store` (the sites' features), `tail_rounds`, `afterwards` (`serving`,
`releasing`: what the sites ask of it when the run is over)."""
