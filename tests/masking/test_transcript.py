"""What the accelerator saw over a run, byte by byte: uniform, and no attack gets anything out of it."""

import numpy as np
import pytest
import torch

from enclave.masking.fixed_point import quantise
from enclave.masking.in_clear import partly
from enclave.masking.masks import Masks
from enclave.masking.residues import WIDTHS, Buffers, meaning
from enclave.slicing.placement import offload
from enclave_host.unmasked import UnmaskedEngine, WrittenStore
from tests.masking import attacks
from tests.masking.tiny import VOCABULARY, LocalAccelerator, cut_model

TOKENS, INNER = 400, 48


@pytest.fixture(scope="module", params=WIDTHS, ids=lambda width: f"{width}-bytes")
def transcript(tmp_path_factory, request, each_engine):
    """All bytes of a training run of several epochs over the same rows: a text that is easy to tell."""
    folder = tmp_path_factory.mktemp("transcript")
    cut = cut_model("llama", "lora", folder, widths=[request.param])
    accelerator = LocalAccelerator(cut.store.folder, rows=64)
    masked = offload(cut, accelerator, folder / "vault", engine=each_engine)
    masked.begin_round(1)
    ids = torch.full((8, 16), 5)
    for _ in range(12):
        cut.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum().backward()
    return accelerator.seen


def test_the_bytes_of_a_run_are_uniform(transcript):
    """Each plane, and each digit for itself: what a request holds, byte for byte."""
    for direction in ("forward", "backward"):
        words = [w for p, w in transcript if p.direction == direction]
        low, high = (
            b"".join(plane.tobytes() for plane in planes)
            for planes in zip(*((w.low, w.high) for w in words), strict=True)
        )
        assert len(low) + len(high) > 300_000
        for data in (low, low[::2], low[1::2], high, high[::2], high[1::2], low + high):
            assert abs(attacks.chi_square(data)) < 5
            assert attacks.bit_bias(data[: len(data) // 4 * 4]) < 5
        for data in (low, high):
            for lag in (1, 2, 4, 4 * 24, 4 * 40):
                assert attacks.serial_correlation(data, lag) < 5.5
        both = np.frombuffer(low, np.uint8)[:: len(low) // len(high)], np.frombuffer(high, np.uint8)
        assert abs(np.corrcoef(*both)[0, 1]) * np.sqrt(len(high)) < 5.5


def test_no_word_sequence_comes_twice(transcript):
    rows = [row.tobytes() for _, words in transcript for row in words.low]
    assert len(set(rows)) == len(rows)


def test_nothing_but_words_leaves(transcript):
    """As many bytes as there are words: no scale, no shape of features, nothing beside them."""
    for product, words in transcript:
        rows = len(words.low)
        assert words.low.nbytes + words.high.nbytes == rows * product.inner * product.limbs


def test_the_uniformity_tests_find_what_is_not_uniform():
    features = torch.randint(-2047, 2048, (TOKENS, INNER), dtype=torch.int32).numpy()
    unmasked = features.tobytes()
    assert attacks.chi_square(unmasked) > 100
    low_bits = (np.random.default_rng(1).integers(0, 1 << 32, 100_000) & ~np.uint32(0x100)).astype(np.uint32)
    assert attacks.bit_bias(low_bits.tobytes()) > 100
    assert attacks.serial_correlation(np.repeat(np.random.default_rng(2).bytes(50_000), 1), 1) < 5.5
    stuttered = np.repeat(np.frombuffer(np.random.default_rng(2).bytes(50_000), np.uint8), 2).tobytes()
    assert attacks.serial_correlation(stuttered, 1) > 50


@pytest.fixture(scope="module", params=["3-bytes", "4-bytes", "behind a front"])
def layer(tmp_path_factory, request, each_engine):
    """Behind a public front: what goes out in clear is another product, before it in the same engine."""
    store = WrittenStore(tmp_path_factory.mktemp("layer"), [4 if request.param == "4-bytes" else 3])
    made, shown = (
        store.add(name, [torch.randn(INNER, INNER, generator=torch.Generator().manual_seed(0))], INNER)
        for name in ("layer", "shown")
    )
    if request.param != "behind a front":
        return store, made, each_engine
    kind = partly(each_engine, {shown.forward[0].number})

    def make(*arguments, **options):
        engine = kind(*arguments, **options)
        enter, accelerator = engine.enter_step, arguments[1]

        def enter_step():
            enter()
            engine.forward(shown, torch.ones(3, INNER))
            ((product, words),) = accelerator.seen
            assert product.layer == "shown" and (words.low == words.low[0, 0]).all()
            accelerator.seen.clear()

        engine.enter_step = enter_step
        return engine

    return store, made, make


def structured_features(seed):
    """Features as a model has them: few directions, of 12 bits."""
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(TOKENS, 20)) @ generator.normal(size=(20, INNER))
    return np.clip(np.round(mixed / np.abs(mixed).max() * 2047), -2047, 2047).astype(np.int32)


def send(layer, features, masks=None):
    """What the accelerator sees of these features, as residues in [−1, 1) of the ring."""
    store, made, make = layer
    engine = make(store, accelerator := LocalAccelerator(store.folder, rows=TOKENS), masks=masks)
    engine.enter_round(1)
    engine.enter_step()
    floats = torch.from_numpy(features).float()
    assert torch.equal(engine.forward(made, floats), UnmaskedEngine(store).forward(made, floats))
    seen = np.concatenate([meaning(words) for _, words in accelerator.seen])
    return seen / 2.0 ** (8 * made.forward[0].limbs - 1)


def test_two_inputs_cannot_be_told_apart(layer):
    """A statistic trained on one half of many transcripts of two very different inputs tells nothing on the
    other half. Under one key the two differ, as they must, by exactly the inputs' difference."""
    zeros, large = np.zeros((TOKENS, INNER), np.int32), np.full((TOKENS, INNER), 2047, np.int32)
    runs = [[send(layer, x) for _ in range(40)] for x in (zeros, large)]
    halves = [(np.array(run[:20]), np.array(run[20:])) for run in runs]
    direction = halves[1][0].mean(0) - halves[0][0].mean(0)
    scores = [[float((sample * direction).sum()) for sample in later] for _, later in halves]
    threshold = np.mean([(early * direction).sum((1, 2)).mean() for early, _ in halves])
    right = sum(s <= threshold for s in scores[0]) + sum(s > threshold for s in scores[1])
    assert 8 <= right <= 32  # 40 coin flips: outside with probability below 10^-4
    masks = [Masks(bytes(32)), Masks(bytes(32))]
    difference = (send(layer, large, masks[0]) - send(layer, zeros, masks[1])) % 2
    product = layer[1].forward[0]
    integers, _ = quantise(torch.full((1, INNER), 2047.0), product.most, Buffers())
    assert set(np.unique(difference * 2 ** (8 * product.limbs - 1))) == {float(integers[0, 0])}


def test_the_attacks_recover_nothing_from_pads(layer):
    features = structured_features(1)
    seen = send(layer, features)
    noise = 5 / np.sqrt(features.size)
    assert attacks.correlation(seen, features) < noise
    for rank in (1, attacks.BASIS, 20, INNER // 2):
        assert attacks.span_residual_attack(seen, features, rank) < noise * np.sqrt(INNER)
    uniform = np.random.default_rng(3).uniform(-1, 1, features.shape)
    for components in (1, 5, 20):
        share = attacks.principal_share(seen, components)
        assert abs(share - attacks.principal_share(uniform, components)) < 0.02


def test_averaging_epochs_recovers_nothing_from_pads(layer):
    features = structured_features(2)
    mean = np.mean([send(layer, features) for _ in range(60)], axis=0)
    assert attacks.correlation(mean, features) < 5 / np.sqrt(features.size)


def test_the_same_attack_breaks_a_static_basis():
    features = structured_features(1).astype(np.float64)
    seen = attacks.static_basis(features, np.random.default_rng(4))
    assert attacks.span_residual_attack(seen, features, attacks.BASIS) > 0.9
    assert attacks.principal_share(seen, attacks.BASIS) > 0.95


def test_the_same_attack_breaks_float_noise():
    features = structured_features(1).astype(np.float64)
    assert attacks.correlation(attacks.float_noise(features, np.random.default_rng(5)), features) > 0.9


def test_the_same_attack_breaks_a_reused_pad():
    features = structured_features(1)
    half = TOKENS // 2
    difference = features[:half].astype(np.float64) - features[half:]
    assert attacks.correlation(attacks.reused_pad(features, np.random.default_rng(6)), difference) > 0.999


def test_no_broken_scheme_can_be_reached_from_the_product():
    """The only class that writes into an accelerator's request is the engine with the ledger."""
    from pathlib import Path

    import enclave

    root = Path(enclave.__file__).parents[1]
    writers = [
        path.relative_to(root).as_posix()
        for package in ("enclave", "enclave_host")
        for path in (root / package).rglob("*.py")
        if ".request(" in path.read_text() or "request_area(" in path.read_text()
    ]
    masking = ["enclave/masking/channel.py", "enclave/masking/masked.py"]
    assert sorted(writers) == [*masking, "enclave_host/accelerator.py"]
    assert VOCABULARY
