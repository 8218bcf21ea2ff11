"""The image of a trust domain that runs one enclave program, and nothing beside it.

    python -m enclave_host.tdx.image PROGRAM --base DIR --into DIR

1. The tree: `base` (Debian's Python 3.11 with its libraries and nothing else, such as a "distroless" image
   unpacked), the program's closure, the launcher, and its locked packages (`enclave_host.environments`). What
   would let somebody in is refused: a shell, a log-in, a remote shell, a package manager.
2. The file system: EROFS, read-only, the same bytes from the same tree.
3. The hash tree: dm-verity (`veritysetup format`), with a salt of zeros. Its root hash is on the kernel's
   command line, which firmware and boot stub measure; so RTMR1 and RTMR2 cover each byte of the tree.
4. The command line: the verity device is the root, and `init` is the launcher. There is no other process:
   when the program ends, so does the trust domain.

`image.json` says all that can be known here: root hash, command line, RTMR3. MRTD and RTMR0 to RTMR2 depend
on firmware, kernel (6.16 or later: RTMR3 in sysfs) and initrd, which must open the verity device before it
leaves (systemd-veritysetup does, by `roothash=`) and mount the mailbox by the tree's fstab: recipe/README.md
has base, boot and registers, as text. What was never tried, docs/threat-model.md says. Needs Debian's
erofs-utils and cryptsetup-bin.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from attestation.measured import PROGRAMS, TREE
from attestation.measurement import measured_files
from attestation.trust_domain import rtmr3_of
from contracts.policy import Program
from contracts.refusal import Refusal
from enclave_host.environments import DEFAULT, is_current
from enclave_host.lock import read_lock
from enclave_host.tdx.development import LAUNCHER

CODE, PACKAGES = "fedslice", "usr/local/lib/python3.11/dist-packages"  # where Debian's Python looks
ZEROS = "00000000-0000-0000-0000-000000000000"
MOUNT_POINTS = ("dev", "mailbox", "proc", "run", "sys", "tmp")
FSTAB = """fedslice /mailbox virtiofs x-initrd.mount,nosuid,nodev,noexec 0 0
tmpfs /tmp tmpfs x-initrd.mount,nosuid,nodev,noexec 0 0
"""
# By name, wherever they lie: each would be a second way to run something.
WAYS_IN = re.compile(
    r"(ba|da|z|k|c|tc|fi|a)?sh|busybox|toybox|sshd?|dropbear|login|agetty|getty|su|sudo|systemd|init"
    r"|apt(-get)?|dpkg|rpm|apk|pip[\d.]*|curl|wget|nc|gdb|strace"
)


def assemble(program: Program, base: Path, environment: Path, root: Path) -> None:
    """Put the tree together in `root`, which must not exist.

    Raises: `image.environment` if the packages are not exactly the lock's, `image.base` if the base is no
    folder of its own, `image.way_in`.
    """
    _require_own(base, root)
    shutil.copytree(base, root, symlinks=True)
    for name in code_of(program):
        (root / CODE / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TREE / name, root / CODE / name)
    require_locked(program, environment)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(_site_packages(environment), root / PACKAGES, ignore=ignored, dirs_exist_ok=True)
    for name in (*MOUNT_POINTS, "etc"):
        (root / name).mkdir(exist_ok=True)
    (root / "etc" / "fstab").write_text(FSTAB)
    for path in sorted(root.rglob("*")):
        if WAYS_IN.fullmatch(path.name) and (path.is_symlink() or (path.is_file() and _is_run(path))):
            raise Refusal("image.way_in", file=str(path.relative_to(root)))


def code_of(program: Program) -> list[str]:
    """The files of ours that the image holds, relative to the tree: what is measured, and the launcher."""
    return sorted({*measured_files(program), LAUNCHER.relative_to(TREE).as_posix()})


def require_locked(program: Program, environment: Path) -> None:
    """The environment was made from the lock as it is now, and holds its packages alone.

    Raises: `image.environment`.
    """
    found = {path.name.removesuffix(".dist-info") for path in _site_packages(environment).glob("*.dist-info")}
    locked = {f"{re.sub(r'[-_.]+', '_', name)}-{version}" for name, version, _sha in read_lock(program)}
    plain = {re.sub(r"[-_.]+(?=.*-)", "_", name).lower() for name in found}
    if not is_current(program, environment) or plain != {name.lower() for name in locked}:
        wrong = sorted(plain ^ {name.lower() for name in locked})[:5]
        raise Refusal("image.environment", program=program, folder=str(environment), found=", ".join(wrong))


def build(program: Program, root: Path, into: Path) -> dict[str, str]:
    """The file system and its hash tree in `into`, from a tree; what `image.json` says.

    Raises: `image.tool_missing`; raises CalledProcessError.
    """
    system, hashes = into / "root.erofs", into / "root.verity"
    # The order of a tree's files, their times and owners are no part of it.
    _run("mkfs.erofs", "-T0", "--all-root", f"-U{ZEROS}", "--quiet", str(system), str(root))
    printed = _run(
        "veritysetup", "format", "--salt=" + "00" * 32, f"--uuid={ZEROS}", str(system), str(hashes)
    )
    found = re.search(r"^Root hash:\s+([0-9a-f]{64})$", printed, re.MULTILINE)
    if found is None:
        raise Refusal("image.tool_missing", tool="veritysetup")
    said = {
        "program": program,
        "roothash": found[1],
        "command_line": command_line(program, found[1]),
        "rtmr3": rtmr3_of(program),
    }
    (into / "image.json").write_text(json.dumps(said, indent=2) + "\n")
    return said


def command_line(program: Program, roothash: str) -> str:
    """The kernel's: what stands after `--` are the first process's arguments."""
    kernel = [
        *("ro", f"roothash={roothash}", "systemd.verity_root_data=/dev/vda"),
        *("systemd.verity_root_hash=/dev/vdb", "rd.shell=0", "rd.emergency=poweroff", "panic=-1"),
        *("module.sig_enforce=1", "lockdown=confidentiality", "init=/usr/bin/python3.11"),
    ]
    launcher = ("-I", "-B", f"/{CODE}/{LAUNCHER.relative_to(TREE)}", program, "--mailbox", "/mailbox")
    return " ".join([*kernel, "--", *launcher])


def _require_own(base: Path, root: Path) -> None:
    """A running system is no base: it would be copied with all that is mounted in it, the image too."""
    base, root = base.resolve(), root.resolve()
    faults = {
        "it is no folder": not base.is_dir(),
        "it is the root of this machine": base == Path(base.anchor),
        "the image would lie in it": root.is_relative_to(base),
        "something is mounted in it": any(path.is_mount() for path in base.glob("*")),
        "it holds no usr/bin/python3.11": not (base / "usr/bin/python3.11").exists(),
    }
    for fault, found in faults.items():
        if found:
            raise Refusal("image.base", folder=str(base), fault=fault)


def _site_packages(environment: Path) -> Path:
    return environment / "lib" / "python3.11" / "site-packages"


def _is_run(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o111)


def _run(tool: str, *arguments: str) -> str:
    found = shutil.which(tool) or shutil.which(tool, path="/usr/sbin:/sbin")
    if found is None:
        raise Refusal("image.tool_missing", tool=tool)
    return subprocess.run(  # noqa: S603 - the command is ours, without a shell
        [found, *arguments], check=True, capture_output=True, text=True
    ).stdout


def main(arguments: list[str] | None = None) -> int:
    """Make the image of a trust domain that runs one enclave program."""
    parser = argparse.ArgumentParser(prog="python -m enclave_host.tdx.image", description=main.__doc__)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--base", type=Path, required=True, help="folder with Python 3.11 and its libraries")
    parser.add_argument("--environments", type=Path, default=DEFAULT, help="default: %(default)s")
    parser.add_argument("--into", type=Path, required=True, help="a new folder")
    options = parser.parse_args(arguments)
    if options.into.exists():
        parser.error(f"{options.into} is there already; give a new folder")
    try:
        options.into.mkdir(parents=True)
        root = options.into / "root"
        assemble(options.program, options.base, options.environments / options.program, root)
        sys.stdout.write(json.dumps(build(options.program, root, options.into), indent=2) + "\n")
    except Refusal as refusal:
        shutil.rmtree(options.into)  # half an image is none
        sys.stderr.write(f"{refusal}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
