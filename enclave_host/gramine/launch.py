"""How a host starts an enclave program: a command line for each runtime. Outside the trust boundary."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from attestation.development import tee_of
from attestation.measured import PROGRAMS, TREE
from contracts.manifest import require_measured
from contracts.policy import Program
from contracts.refusal import Refusal
from enclave_host.environments import environment_of
from enclave_host.gramine.render import CHANNEL, render, values_for
from enclave_host.tdx.development import boot, launch

SIGNED_FOLDER = "FEDSLICE_GRAMINE"


def command(program: Program, runtime: str, mailbox: Path) -> list[str]:
    """The command that starts `program` with the host folder `mailbox` as its mailbox.

    - `development`: an ordinary process, in the program's own environment (`enclave_host.environments`) where
      FEDSLICE_ENCLAVE_ENVS names one, else in this interpreter's. Where the platform plays TDX, it gets a
      trust domain of its own and is started by the launcher, which measures it.
    - `tdx` is refused: nothing here starts a trust domain of the measured image (enclave_host/tdx) yet, and
      an ordinary process in this host's own would prove no program.
    - `direct`: `gramine-direct`, on a manifest rendered here for this mailbox (it is not measured).
    - `sgx`: `gramine-sgx`, on the manifest that the operator rendered and signed in FEDSLICE_GRAMINE
      (default `var/gramine`).

    Raises: `gramine.unknown_program`, `gramine.not_installed`, `gramine.not_signed`, `gramine.bad_path`,
    `program.no_environment`, `runtime.unmeasured`, `source.unknown_runtime`.
    """
    if program not in PROGRAMS:
        raise Refusal("gramine.unknown_program", program=str(program)[:40])
    require_measured(runtime)
    if runtime == "development":
        environment = environment_of(program)
        python = str(environment / "bin" / "python") if environment else sys.executable
        if tee_of(_platform(mailbox)) == "tdx":
            boot(mailbox)
            return launch(program, python, mailbox)
        return [python, "-m", f"enclave.programs.{program}", "--mailbox", str(mailbox)]
    if runtime == "direct":
        gramine = tool("gramine-direct")
        application = _rendered(program, mailbox)
    elif runtime == "sgx":
        gramine = tool("gramine-sgx")
        application = _signed(program)
    else:
        raise Refusal("source.unknown_runtime", runtime=runtime[:40])
    if program == "client_slice":
        (mailbox / CHANNEL).mkdir(exist_ok=True)  # Gramine mounts it when it starts
    # Manifests name the mailbox ".", so that its path is not measured: Gramine must start in that folder.
    return [tool("env"), f"--chdir={mailbox.resolve()}", gramine, str(application)]


def tool(name: str) -> str:
    """Where a tool of Gramine is.

    Raises: `gramine.not_installed`.
    """
    found = shutil.which(name)
    if found is None:
        raise Refusal("gramine.not_installed", tool=name)
    return found


def _platform(mailbox: Path) -> str:
    """`host.json` says where the development platform is."""
    try:
        return json.loads((mailbox / "host.json").read_bytes())["platform"] or ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refusal("gramine.bad_path", what="mailbox", fault="its host.json is not readable") from error


def _rendered(program: Program, mailbox: Path) -> Path:
    """`gramine-direct` reads NAME.manifest."""
    platform = _platform(mailbox)
    lib = Path(tool("gramine-direct")).resolve().parents[1] / "lib" / "x86_64-linux-gnu" / "gramine"
    values = values_for(
        program,
        venv=environment_of(program),
        platform=platform,
        gramine_lib=str(lib),
        threads=threads(),
    )
    (mailbox / f"{program}.manifest").write_text(render(program, values))
    return mailbox.resolve() / program


def threads() -> int:
    """How many threads compute in a program that this host starts: OMP_NUM_THREADS, else one for each
    processor. More than there are wait for each other at every step."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) > 0 else len(os.sched_getaffinity(0))


def _signed(program: Program) -> Path:
    folder = Path(os.environ.get(SIGNED_FOLDER, TREE / "var" / "gramine")).resolve()
    for ending in (".manifest.sgx", ".sig"):
        file = folder / f"{program}{ending}"
        if not file.is_file():
            raise Refusal("gramine.not_signed", file=str(file), program=program)
    return folder / program
