"""Muon: steps of equal size along every singular direction of a weight matrix."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sciwm.core.bounds import require_counts, require_positive

# Coefficients of the quintic iteration (K. Jordan et al., Muon, 2024, kellerjordan.github.io/posts/muon):
# steep at zero, so that five rounds bring all singular values between 0.7 and 1.2.
QUINTIC = (3.4445, -4.7750, 2.0315)

MOMENTUM = 0.95
ADAM = (0.9, 0.999)
"""Decay of Adam's averages of gradients and of their squares."""


def orthogonalised(matrices: Tensor, rounds: int = 5) -> Tensor:
    """(..., n, m) with the same singular vectors, and all singular values near 1.

    A Newton-Schulz iteration on the odd polynomial a x + b x³ + c x⁵; exact orthogonality is not
    needed by the optimiser and would cost an SVD.
    """
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.transpose(-2, -1) if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-12)
    for _ in range(rounds):
        gram = x @ x.transpose(-2, -1)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(-2, -1) if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised matrix by matrix; Adam for everything that is not a matrix.

    A gradient step moves a matrix mostly along the few directions in which gradients are large; here
    all directions move alike, by the rate times sqrt(max(1, rows / columns)) (Jordan et al. 2024, with
    Nesterov momentum). Parameters of more than two dimensions are stacks of matrices. Matrices of one
    shape are treated together, so that small models spend their time in few large products.

    With fewer rounds small singular values of the gradient stay smaller: a step is then mostly along the
    directions that many samples agree on, and where samples are few, noise moves the weights less.

    Args:
        matrices: Parameters of two or more dimensions.
        others: All other parameters.
        matrix_rate: Length of a step along each singular direction.
        rate: Adam's (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1).
        rounds: Of orthogonalisation; none leaves momentum, scaled to unit Frobenius norm.

    Raises:
        ValueError: If one of `matrices` is not a matrix or a stack of matrices, or rounds are negative.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        matrix_rate: float,
        rate: float,
        rounds: int = 5,
    ):
        require_counts(0, rounds=rounds)
        require_positive(matrix_rate=matrix_rate, rate=rate)
        self.rounds = rounds
        chosen = list(matrices)
        for one in chosen:
            if one.dim() < 2:
                raise ValueError(
                    f"Muon moves matrices, got a parameter of shape {tuple(one.shape)}"
                )
        groups = [
            {"params": chosen, "lr": matrix_rate, "orthogonal": True},
            {"params": list(others), "lr": rate, "orthogonal": False},
        ]
        super().__init__([group for group in groups if group["params"]], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for group in self.param_groups:
            params = [one for one in group["params"] if one.grad is not None]
            if not group["orthogonal"]:
                self._follow(params, group["lr"])
                continue
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for one in params:
                by_shape.setdefault(one.shape[-2:], []).append(one)
            for (rows, columns), members in by_shape.items():
                self._move(members, group["lr"] * max(1.0, rows / columns) ** 0.5)
        return result

    def _move(self, members: list[Tensor], length: float) -> None:
        (averages,) = self._remembered(members, "average")
        gradients = [one.grad for one in members if one.grad is not None]
        torch._foreach_lerp_(averages, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, averages, MOMENTUM)
        stacked = torch.cat([one.reshape(-1, *one.shape[-2:]) for one in ahead])
        moves = orthogonalised(stacked, self.rounds).split(
            [one[..., 0, 0].numel() for one in members]
        )
        shaped = [move.view_as(one) for move, one in zip(moves, members, strict=True)]
        torch._foreach_add_(members, shaped, alpha=-length)

    def _follow(self, params: list[Tensor], rate: float) -> None:
        means, squares = self._remembered(params, "average", "square")
        steps = []
        for one in params:
            self.state[one]["step"] = self.state[one].get("step", 0) + 1
            steps.append(self.state[one]["step"])
        gradients = [one.grad for one in params if one.grad is not None]
        first, second = ADAM
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        scales = torch._foreach_sqrt(squares)
        torch._foreach_div_(scales, [(1 - second**n) ** 0.5 for n in steps])
        torch._foreach_add_(scales, 1e-8)
        torch._foreach_addcdiv_(params, means, scales, [-rate / (1 - first**n) for n in steps])

    def _remembered(self, params: list[Tensor], *names: str) -> list[list[Tensor]]:
        for one in params:
            for name in names:
                if name not in self.state[one]:
                    self.state[one][name] = torch.zeros_like(one)
        return [[self.state[one][name] for one in params] for name in names]


def matrices_of(
    module: nn.Module, parameters: Sequence[nn.Parameter]
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Those parameters that map vectors to vectors, and the others, embeddings among them."""
    embeddings = {one.weight for one in module.modules() if isinstance(one, nn.Embedding)}
    matrices = [
        p for p in parameters if p.dim() >= 2 and min(p.shape[-2:]) > 1 and p not in embeddings
    ]
    chosen = set(matrices)
    return matrices, [p for p in parameters if p not in chosen]
