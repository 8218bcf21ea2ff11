"""The relay between a site and a served model's enclave (contracts/serving_calls.py has what it carries)."""

from __future__ import annotations

from msgspec import Struct

from contracts.agents_api.endpoint import Endpoint
from contracts.program_calls import Nothing
from contracts.serving_calls import CloseArguments, OpenArguments, SessionOpened, StepArguments, Stepped


class ServedAnswer(Struct, frozen=True):
    """A run whose model this site may ask; `state` is `starting` or `serving`."""

    run: str
    manifest_hash: str
    study: str
    state: str


SERVED = Endpoint("GET", "serving", Nothing, list[ServedAnswer])
OPEN = Endpoint("POST", "runs/{run}/serving/open", OpenArguments, SessionOpened)
STEP = Endpoint("POST", "runs/{run}/serving/step", StepArguments, Stepped)
CLOSE = Endpoint("POST", "runs/{run}/serving/close", CloseArguments, Nothing)
