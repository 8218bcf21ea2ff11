"""FedProx: the gradient of μ/2·‖w − w₀‖² beside that of the rows, and nothing where μ is 0."""

from __future__ import annotations

import torch
from torch import nn

from enclave.training.proximal import proximal


def test_what_is_added_is_the_gradient_of_the_proximal_term() -> None:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(4)), nn.Parameter(torch.ones(2))]
    start = [parameter.detach().clone() for parameter in parameters]
    pull = proximal(parameters, 0.3)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter))
    rows = sum((parameter**3).sum() for parameter in parameters[:2])
    term = sum(((p - s) ** 2).sum() for p, s in zip(parameters[:2], start[:2], strict=True)) * 0.15
    assert isinstance(rows, torch.Tensor) and isinstance(term, torch.Tensor)
    expected = torch.autograd.grad(rows + term, parameters[:2], retain_graph=True)
    rows.backward()
    pull()
    for parameter, gradient in zip(parameters[:2], expected, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, gradient)
    assert parameters[2].grad is None  # what no row reaches is where it was


def test_at_the_beginning_of_a_round_nothing_pulls() -> None:
    parameter = nn.Parameter(torch.randn(5))
    pull = proximal([parameter], 2.0)
    parameter.grad = torch.ones(5)
    pull()
    assert torch.equal(parameter.grad, torch.ones(5))
