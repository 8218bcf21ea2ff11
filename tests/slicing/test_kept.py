"""A frozen matrix that stays bf16 gives the answers and gradients of its float32 twin, to the bit."""

import pytest
import torch
from torch import nn

from enclave.slicing import kept
from enclave.slicing.kept import HALVES, KeptLinear
from enclave.slicing.rowtuned import RowTunedLinear

OUTPUTS, INPUTS = 24, 16
INDEX = torch.tensor([1, 5, 6, 23])
EACH = pytest.mark.parametrize("dtype", HALVES, ids=("bf16", "fp16"))


def matrix(dtype):
    made = torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(1)).to(dtype)
    return made, torch.randn(OUTPUTS, generator=torch.Generator().manual_seed(2))


def linears(dtype, tuned):
    """The kept one, and its twin of float32."""
    weight, bias = matrix(dtype)
    if tuned:
        return [RowTunedLinear(each, bias, INDEX) for each in (weight.clone(), weight.float())]
    made = [nn.Linear(INPUTS, OUTPUTS) for _ in range(2)]
    for linear, each in zip(made, (weight, weight.float()), strict=True):
        linear.weight, linear.bias = nn.Parameter(each, False), nn.Parameter(bias.clone(), False)
    return [KeptLinear(made[0]), made[1]]


def steps(linear, autocast):
    """Outputs, gradients and tuned rows of three steps."""
    features = torch.randn(3, 5, INPUTS, generator=torch.Generator().manual_seed(3)).requires_grad_()
    rows = [parameter for parameter in linear.parameters() if parameter.requires_grad]
    found = []
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = linear(features)
        output.float().square().sum().backward()
        found += [output.detach(), features.grad.clone(), *(row.grad.clone() for row in rows)]
        with torch.no_grad():
            for row in rows:
                row -= 0.01 * row.grad
                row.grad = None
        features.grad = None
    return [*found, *(row.detach() for row in rows)]


@EACH
@pytest.mark.parametrize("tuned", (False, True), ids=("frozen", "rows-tuned"))
@pytest.mark.parametrize("autocast", (False, True), ids=("fp32", "autocast"))
def test_a_kept_matrix_is_its_wide_twin_bit_for_bit(dtype, tuned, autocast):
    short, wide = linears(dtype, tuned)
    assert {p.dtype for n, p in short.named_parameters() if n in ("weight", "frozen")} == {dtype}
    for one, other in zip(steps(short, autocast), steps(wide, autocast), strict=True):
        assert torch.equal(one, other)


def test_a_matrix_that_is_too_large_is_widened_some_rows_at_a_time(monkeypatch):
    short, wide = linears(torch.bfloat16, tuned=False)
    monkeypatch.setattr(kept, "WIDENED", 5 * INPUTS)
    for one, other in zip(steps(short, False), steps(wide, False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-5)


def test_rows_that_changed_before_the_backward_pass_are_noticed():
    short, _ = linears(torch.bfloat16, tuned=True)
    output = short(torch.randn(2, INPUTS, requires_grad=True))
    with torch.no_grad():
        short.rows.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_the_matrix_as_it_stands_has_the_tuned_rows_in_full():
    short, wide = linears(torch.bfloat16, tuned=True)
    for linear in (short, wide):
        with torch.no_grad():
            linear.rows.add_(1e-5)  # less than a bf16 can hold beside 1
    assert torch.equal(short.weight, wide.weight) and short.weight.dtype is torch.float32
