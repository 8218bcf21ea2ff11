"""`make wheelhouse KEY=…`: all that a hospital's agent is installed from, signed by the release key.

The folder holds the agent's wheel, torch's CPU wheel and every other package of requirements-site.lock, a
requirements.txt with the hash of each, the container file, and SHA256SUMS with its signature (SSHSIG,
`ssh-keygen -Y sign`; namespace fedslice-wheelhouse). The coordinator serves it at /install; what makes it
believable is the release key's fingerprint, which hospitals have from elsewhere.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMESPACE = "fedslice-wheelhouse"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
NOT_BUILT = (".*", "var", "build", "*.egg-info", "__pycache__", "tests", "benchmarks", "shared")
BESIDE = ("Dockerfile.site", "images.env")


def main() -> None:
    """Collect, list, sign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / "var" / "wheelhouse")
    parser.add_argument("--key", type=Path, required=True, help="the release key, as ssh-keygen made it")
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements-site.lock")
    parser.add_argument(
        "--offline", type=Path, metavar="FOLDER", help="take the packages from here, from no index"
    )
    chosen = parser.parse_args()
    into: Path = chosen.into
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    download(chosen.lock, into, chosen.offline)
    agent = build(into)
    lines = [line for line in chosen.lock.read_text().splitlines() if line and not line.startswith("#")]
    pinned = [pin(agent)]
    if (kernels := build_kernels(into)) is not None:
        pinned.append(pin(kernels, '; sys_platform == "linux" and platform_machine == "x86_64"'))
    (into / "requirements.txt").write_text("\n".join([*lines, *pinned]) + "\n")
    for name in BESIDE:
        shutil.copy(ROOT / name, into / name)
    sign(into, chosen.key)


def download(lock: Path, into: Path, offline: Path | None) -> None:
    """The locked packages, each with the hash that the lock names."""
    where = ["--no-index", "--find-links", str(offline)] if offline else ["--extra-index-url", TORCH_INDEX]
    pip(
        ["download", "--no-deps", "--require-hashes", "--requirement", str(lock), "--dest", str(into), *where]
    )


def build(into: Path) -> Path:
    """The agent's own wheel, from a copy: a build leaves folders behind, and takes up an older one's."""
    left_out = shutil.ignore_patterns(*NOT_BUILT)
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(ROOT, Path(folder) / "tree", ignore=left_out)
        pip(["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(into), str(copy)])
    return next(into.glob("fedslice-*.whl"))


def build_kernels(into: Path) -> Path | None:
    """The wheel of kernels in C; None on a machine without a C compiler, as the agent needs it not. It says
    so where enclaves will not load these, because this compiler is another than that of the locked wheel."""
    build = [sys.executable, str(ROOT / "kernels" / "recipe.py"), "--into", str(into)]
    if subprocess.run(build, check=False).returncode not in (0, 3):  # noqa: S603 - ours
        return None
    return next(into.glob("fedslice_kernels-*.whl"))


def pin(wheel: Path, where: str = "") -> str:
    """A requirement of these bytes."""
    name, version = wheel.name.split("-")[:2]
    return " ".join(filter(None, (f"{name}=={version}", where, f"--hash=sha256:{sha256(wheel)}")))


def sign(folder: Path, key: Path) -> None:
    """SHA256SUMS of all that is there, its signature, and the key's public half."""
    names = sorted(file.name for file in folder.iterdir())
    sums = folder / "SHA256SUMS"
    sums.write_text("".join(f"{sha256(folder / name)}  {name}\n" for name in names))
    ssh_keygen("-Y", "sign", "-f", str(key), "-n", NAMESPACE, str(sums))
    (folder / "release.pub").write_text(ssh_keygen("-y", "-f", str(key)))
    shown = ssh_keygen("-lf", str(folder / "release.pub")).split()[1]
    sys.stdout.write(f"{folder}: {len(names)} files. Tell hospitals the key by letter: {shown}\n")


def ssh_keygen(*words: str) -> str:
    """What it says."""
    program = shutil.which("ssh-keygen")
    if program is None:
        raise SystemExit("ssh-keygen is needed: install OpenSSH's client.")
    done = subprocess.run([program, *words], stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - ours
    return done.stdout


def sha256(file: Path) -> str:
    """In hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def pip(arguments: list[str]) -> None:
    """This environment's pip."""
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *arguments], check=True)  # noqa: S603 - ours


if __name__ == "__main__":
    main()
