"""Small parts of enclave programs behind a filter that answers system calls as Gramine 1.9 would."""

import subprocess
import sys
import textwrap

import pytest

from tests.support import as_gramine

pytestmark = pytest.mark.enosys


def behind(code, *arguments):
    """What this code prints, run by an interpreter behind the filter."""
    start = [sys.executable, as_gramine.__file__, sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run([*start, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_filter_answers_as_gramine_does():
    """Else the tests behind it would show nothing."""
    assert behind(
        """
        import errno, os, resource, threading
        def tried(call, *arguments):
            try:
                call(*arguments)
            except OSError as error:
                return errno.errorcode[error.errno]
            return "done"
        file = os.open("/proc/self/exe", os.O_RDONLY)
        print(tried(os.preadv, file, [bytearray(1)], 0), tried(os.pread, file, 1, 0))
        print(tried(resource.getrusage, resource.RUSAGE_SELF), tried(os.memfd_create, "x"), tried(os.fork))
        thread = threading.Thread(target=print, args=("thread",))
        thread.start()
        thread.join()
        """
    ) == ["ENOSYS", "done", "ENOSYS", "ENOSYS", "EAGAIN", "thread"]
    assert {"pread64", "clone", "mmap"} < set(as_gramine.answered())
    assert not {"preadv", "getrusage", "mremap", "statx"} & set(as_gramine.answered())


def test_a_pad_comes_back_out_of_the_vault(tmp_path):
    assert behind(
        """
        import pathlib, sys
        from enclave.masking.masks import PadIndex
        from enclave.masking.vault import Vault
        vault = Vault(pathlib.Path(sys.argv[1]), bytes(32), 10_000_000)
        two = bytearray(range(256)) * 400, bytearray(10)
        for number, pads in enumerate(two):
            vault.put(PadIndex(1, 1, number), pads, tokens=number + 2)
        print(*(vault.take(PadIndex(1, 1, n)) == (two[n], n + 2) for n in (1, 0)))
        """,
        tmp_path,
    ) == ["True", "True"]


def test_memory_is_counted_without_getrusage():
    """Gramine's /proc/self/status has one line, VmPeak; where there is none, a round goes on all the same."""
    assert (
        behind(
            """
        from pathlib import Path
        from enclave.slicing.memory import peak_memory
        here = peak_memory()
        assert here > 1 << 20
        for status, expected in (("VmPeak:\\t    2048 kB\\n", 2 << 20), ("", 0)):
            Path.read_text = lambda self, status=status: status
            assert peak_memory() == expected, peak_memory()
        """
        )
        == []
    )
