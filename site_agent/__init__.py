"""The hospital's side of FedSlice: it enrols, offers datasets, approves runs, and works for them.

It only ever connects outward, over HTTPS, and believes the coordinator nothing that it can check itself.
"""

AGENT_VERSION = "0.1.0"
