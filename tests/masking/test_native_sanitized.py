"""The enclave's C with AddressSanitizer and UndefinedBehaviorSanitizer, in buffers of exactly their sizes."""

import subprocess
from pathlib import Path

import pytest

from tests.masking.conftest import KERNELS

DRIVER = Path(__file__).with_name("fuzz_passes.c")
SANITIZED = ["-g", "-O1", "-DCLONES=", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
KINDS = {"plain": [], "vectors": ["-O3", "-march=native"]}
MISTAKES = {
    "a row too long": ("scratch.count >= TOGETHER * columns", "scratch.count >= 0"),
    "a number too many": ("for (int64_t i = 0; i < columns; i++)", "for (int64_t i = 0; i <= columns; i++)"),
    "a width that there is not": ("(limbs != 3 && limbs != 4)", "0"),
}


def build(compiler, folder, flags, source):
    """The driver around these passes; skips where the compiler has no sanitizers."""
    (folder / "passes.c").write_text(source)
    program = folder / "fuzz_passes"
    command = [compiler, *SANITIZED, *flags, "-I", folder, "-o", program, DRIVER, "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "asan" in done.stderr:
        pytest.skip("this compiler has no sanitizers")
    assert done.returncode == 0, done.stderr
    return program


def run(program, rounds, seed):
    return subprocess.run([program, str(rounds), str(seed)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", KINDS)
def test_no_size_and_no_byte_leads_out_of_the_buffers(kind, compiler, tmp_path):
    program = build(compiler, tmp_path, KINDS[kind], (KERNELS / "passes.c").read_text())
    done = run(program, 1500, 7)
    assert done.returncode == 0, done.stderr
    written, refused = (int(word) for word in done.stdout.split()[::2])
    assert written > 900 and refused > 200 and written + refused == 1500


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_sanitizers_find_what_leads_out(mistake, compiler, tmp_path):
    right, wrong = MISTAKES[mistake]
    source = (KERNELS / "passes.c").read_text()
    assert right in source
    program = build(compiler, tmp_path, [], source.replace(right, wrong))
    assert run(program, 1500, 7).returncode != 0


def test_what_an_enclave_may_load_in_c_stays_small():
    assert len((KERNELS / "passes.c").read_text().splitlines()) <= 300
