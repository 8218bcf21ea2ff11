"""The accelerator as a process of its own, and everything that a hostile one can do."""

import errno
import mmap
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from contracts.refusal import Refusal
from enclave.masking.channel import MaskedChannel
from enclave.masking.masked import MaskedEngine
from enclave.masking.masks import Masks
from enclave.masking.residues import WIDTHS, Packed, pack
from enclave.masking.vault import Vault
from enclave_host.accelerator import AcceleratorServer, Multiplier, read_products
from enclave_host.channel_file import create_channel
from enclave_host.unmasked import UnmaskedEngine, WrittenStore
from tests.masking.tiny import LocalAccelerator, times

AREA = 1 << 14


@pytest.fixture(params=WIDTHS, ids=lambda width: f"{width}-bytes")
def store(tmp_path, request):
    torch.manual_seed(3)
    store = WrittenStore(tmp_path / "store", [request.param])
    for name, outputs, inputs in (("first", 20, 12), ("second", 8, 20)):
        store.add(name, (torch.randn(outputs, inputs),), outputs)
    return store


@pytest.fixture
def mixed(tmp_path):
    """One layer in three bytes, one in four."""
    store = WrittenStore(tmp_path / "mixed", [3])
    store.add("narrow", [torch.randn(20, 12)], 20)
    store.writer._widths = [4]
    store.add("wide", [torch.randn(8, 20)], 8)
    return store


@pytest.fixture
def served(store, tmp_path, engine):
    """Start `kind` of server in a thread over a real shared file; gives the engine in front of it."""
    make, ends = engine, []

    def start(kind=AcceleratorServer, timeout=5.0):
        file = create_channel(tmp_path / "channel", "suspect", slots=2, area=AREA)
        server = kind(file, Multiplier(read_products(store.folder)))
        ending = threading.Event()
        thread = threading.Thread(target=server.run, args=(lambda: not ending.is_set(),), daemon=True)
        thread.start()
        ends.append((ending, thread))
        engine = make(store, MaskedChannel(tmp_path / "channel", timeout=timeout))
        engine.enter_round(1)
        engine.enter_step()
        return engine

    yield start
    for ending, thread in ends:
        ending.set()
        thread.join(10)


def products(store):
    return [product for layer in store.layers.values() for product in layer.products]


def features(product, rows=9):
    generator = torch.Generator().manual_seed(product.number)
    return torch.randn(rows, product.inner, generator=generator)


def same(engine, plain, product):
    return torch.equal(times(engine, product, features(product)), times(plain, product, features(product)))


def refusal(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value


def test_a_real_accelerator_process_answers_exactly_and_ends_with_its_channel(mixed, tmp_path):
    store = mixed
    channel = tmp_path / "channel"
    command = [sys.executable, "-m", "enclave_host.accelerator", "--device", "cpu", "--area", str(AREA)]
    process = subprocess.Popen([*command, "--weights", str(store.folder), "--channel", str(channel)])
    try:
        deadline = time.monotonic() + 90
        while not channel.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        engine, plain = MaskedEngine(store, MaskedChannel(channel)), UnmaskedEngine(store)
        engine.enter_round(1)
        for _ in range(3):  # more requests than slots, more rows than a request takes
            engine.enter_step()
            for product in products(store):
                fixed = features(product, rows=300)
                assert torch.equal(times(engine, product, fixed), times(plain, product, fixed))
        assert os.uname().nodename in engine._accelerator.name
        process.kill()
        process.wait(10)
        engine._accelerator._timeout = 0.5
        first = products(store)[0]
        assert refusal(times, engine, first, features(first)).code == "accelerator.dead"
        again = MaskedEngine(store, MaskedChannel(channel, timeout=0.2))  # a new enclave on the old file
        again.enter_step()
        assert refusal(times, again, first, features(first)).code == "accelerator.dead"
    finally:
        process.kill()
        process.wait(10)


class Hostile(AcceleratorServer):
    def area(self, number, rows):
        outer, _, limbs = self.multiplier.shape(number)
        return self.file.answer_area(self._request, rows, outer, limbs)

    def answer(self, number, rows):
        super().answer(number, rows)
        self.spoil(self.area(number, rows))


class OneBit(Hostile):
    def spoil(self, area):
        area.low[len(area.low) // 2, 1] ^= 1


class TopBit(Hostile):
    """Adds half the ring: over the ring itself one check in two would pass it."""

    def spoil(self, area):
        area.high[0, 0] ^= np.iinfo(area.high.dtype).min


class Mersenne(Hostile):
    """Adds 2^31 − 1: invisible to a check modulo that prime (and one less in a ring of 2^24)."""

    def spoil(self, area):
        number = int(area.low[0, 0]) + (int(area.high[0, 0]) << 16) + (1 << 31) - 1
        pack(
            np.array([[number % (1 << 32)]], np.uint32).view(np.int32),
            Packed(area.low[:1, :1], area.high[:1, :1]),
        )


class OneRow(Hostile):
    def spoil(self, area):
        area.low[1], area.high[1] = area.low[0], area.high[0]


class Zeros(Hostile):
    def spoil(self, area):
        area.low[:], area.high[:] = 0, 0


class Replay(Hostile):
    """Gives the first answer again and again."""

    kept = None

    def spoil(self, area):
        if self.kept is None:
            self.kept = area.low.copy(), area.high.copy()
        area.low[:], area.high[:] = self.kept


class WrongWeights(AcceleratorServer):
    def answer(self, number, rows):
        self.multiplier._weights[number][0, 0] ^= 1
        super().answer(number, rows)


class WrongShape(AcceleratorServer):
    def publish(self, number, rows):
        super().publish(number, rows - 1)


class OtherProduct(AcceleratorServer):
    def publish(self, number, rows):
        super().publish(number + 1, rows)


class Slow(AcceleratorServer):
    def answer(self, number, rows):
        time.sleep(1.2)
        super().answer(number, rows)


class Dead(AcceleratorServer):
    def run(self, running):
        return


class Ahead(AcceleratorServer):
    """Says that answers are there before they were asked for."""

    def answer_next(self):
        for request in range(1, 9):
            self.file.words[self.file.line(request)[0] + 1] = request
        return False


CASES = {
    OneBit: "masking.wrong_product",
    TopBit: "masking.wrong_product",
    Mersenne: "masking.wrong_product",
    OneRow: "masking.wrong_product",
    Zeros: "masking.wrong_product",
    WrongWeights: "masking.wrong_product",
    WrongShape: "accelerator.wrong_answer",
    OtherProduct: "accelerator.wrong_answer",
    Slow: "accelerator.slow",
    Dead: "accelerator.dead",
    Ahead: "accelerator.",
}


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("rows", [9, 150])
@pytest.mark.parametrize("direction", [0, 1])
def test_a_hostile_accelerator_is_refused_and_everything_ends(kind, direction, rows, served, store):
    """Forward and backward; in one piece, and in pieces of which some are still on their way."""
    engine = served(kind, timeout=0.6)
    product = products(store)[direction]
    assert product.direction == ("forward", "backward")[direction]
    caught = refusal(times, engine, product, features(product, rows))
    assert caught.code.startswith(CASES[kind])
    assert caught.facts["accelerator"] == "suspect"
    assert engine.usage.checks == 0
    assert refusal(times, engine, product, features(product)).code == "masking.ended"


def test_an_old_answer_is_no_answer(served, store):
    engine = served(Replay)
    product = products(store)[0]
    times(engine, product, features(product))
    engine.enter_step()
    assert refusal(times, engine, product, features(product)).code == "masking.wrong_product"


def test_an_honest_one_passes_where_the_hostile_ones_fail(served, store):
    engine, plain = served(), UnmaskedEngine(store)
    for product in products(store):
        assert same(engine, plain, product)
    assert engine.usage.checks == len(products(store))


def test_a_channel_of_something_else_is_refused(tmp_path):
    (tmp_path / "short").write_bytes(b"x" * 100)
    (tmp_path / "zeros").write_bytes(bytes(1 << 17))
    create_channel(tmp_path / "target", "target", area=4096)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("short", "zeros", "link", "missing"):
        assert refusal(MaskedChannel, tmp_path / name).code == "accelerator.bad_channel"


def test_a_file_whose_size_python_does_not_ask_for_is_mapped_whole(tmp_path, monkeypatch):
    """Under Gramine the shared file is a device, and a device's mapping without a size is EINVAL."""

    class MappingOfADevice(mmap.mmap):
        def __new__(cls, descriptor, length):
            if length == 0:
                raise OSError(errno.EINVAL, "Invalid argument")
            return super().__new__(cls, descriptor, length)

    create_channel(tmp_path / "channel", "device", area=4096)
    monkeypatch.setattr(mmap, "mmap", MappingOfADevice)
    assert MaskedChannel(tmp_path / "channel").name == "device"


def test_a_row_that_fits_no_slot_is_refused(store, tmp_path):
    create_channel(tmp_path / "channel", "small", area=4096)
    wide = WrittenStore(tmp_path / "wide")
    layer = wide.add("wide", (torch.randn(3, 2000),), 3)
    engine = MaskedEngine(wide, MaskedChannel(tmp_path / "channel"))
    engine.enter_step()
    assert (
        refusal(times, engine, layer.forward[0], features(layer.forward[0])).code == "accelerator.too_large"
    )


def test_pads_are_used_in_order_then_made_inline_and_counted(store, tmp_path, engine):
    masks = Masks()
    vault = Vault(tmp_path / "vault", masks.derive("vault"), 1 << 20)
    engine = engine(store, LocalAccelerator(store.folder, rows=4), vault, masks)
    plain, product = UnmaskedEngine(store), products(store)[0]
    engine.enter_round(1)
    plan = [{product.number: 6}, {product.number: 6}]
    assert engine.estimate(plan) == 2 * (6 * product.outer * product.limbs + 16)
    engine.prepare(plan)
    assert vault.bytes == engine.estimate(plan) and engine.pads_left() == 2
    for rows, expected in ((6, (6, 0)), (9, (6, 9)), (2, (6, 11))):
        engine.enter_step()
        fixed = features(product, rows)
        assert torch.equal(times(engine, product, fixed), times(plain, product, fixed))
        assert (engine.usage.pads_used, engine.usage.pads_inline) == expected
    assert vault.bytes == 0


def test_a_damaged_pad_stops_the_contribution(store, tmp_path):
    masks = Masks()
    vault = Vault(tmp_path / "vault", masks.derive("vault"), 1 << 20)
    engine = MaskedEngine(store, LocalAccelerator(store.folder), vault, masks)
    engine.prepare([{0: 6}])
    (file,) = (tmp_path / "vault").iterdir()
    file.write_bytes(bytes(file.stat().st_size))
    engine.enter_step()
    assert (
        refusal(times, engine, products(store)[0], features(products(store)[0])).code
        == "masking.vault_damaged"
    )


def test_a_vault_too_small_is_refused_before_work_begins(store, tmp_path):
    masks = Masks()
    engine = MaskedEngine(
        store, LocalAccelerator(store.folder), Vault(tmp_path / "vault", masks.derive("vault"), 100), masks
    )
    assert refusal(engine.prepare, [{0: 6}]).code == "masking.vault_full"
    assert list((tmp_path / "vault").iterdir()) == []


def test_the_same_product_twice_in_a_step_takes_fresh_masks(store, engine):
    engine, plain = engine(store, local := LocalAccelerator(store.folder)), UnmaskedEngine(store)
    engine.enter_step()
    product = products(store)[0]
    for _ in range(2):
        assert same(engine, plain, product)
    assert (local.seen[0][1].low != local.seen[1][1].low).any()
