"""A loss and its gradient by the weights as one compiled program."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sciwm.models.programs.tracing import Function, compile_function, require_same


class CompiledLoss:
    """Weighted sums of errors of a model, with the gradient by its weights from the same program.

    Building takes about a minute, and ends with a comparison with the model itself. Sums of errors are
    what `measure` gives; their weights may change from call to call.

    Args:
        model: Whose trainable parameters are differentiated by.
        measure: (model, *inputs) to a vector of sums.
        example: Inputs to trace with; see `tracing.compile_function`.
        varying: Of each input, the dimensions whose size may change.

    Raises:
        CompilationError: If the program cannot be built.
        DeviationError: If it gives other numbers.
    """

    def __init__(
        self,
        model: nn.Module,
        measure: Callable[..., Tensor],
        example: Sequence[Tensor],
        varying: Sequence[tuple[int, ...]],
    ):
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        names = list(self._parameters)

        def sums_and_gradients(*tensors: Tensor, of: nn.Module = model) -> tuple[Tensor, ...]:
            weights, (coefficients, *inputs) = tensors[: len(names)], tensors[len(names) :]
            bound = dict(zip(names, weights, strict=True))
            sums = functional_call(_Measured(of, measure), _prefixed(bound), tuple(inputs))
            gradients = torch.autograd.grad((coefficients * sums).sum(), weights, allow_unused=True)
            found = (
                torch.zeros_like(w) if g is None else g
                for w, g in zip(weights, gradients, strict=True)
            )
            return sums.detach(), *found

        weights = list(self._parameters.values())
        ones = torch.ones_like(measure(model, *example).detach())
        inputs = [*weights, ones, *example]
        fixed = [()] * (len(weights) + 1)
        self._program = compile_function(sums_and_gradients, inputs, [*fixed, *varying])
        with torch.no_grad():
            found = self._program(*(one.detach() for one in inputs))

        def exactly() -> tuple[Tensor, ...]:
            doubled = [one.detach().double() if one.is_floating_point() else one for one in inputs]
            for weight in doubled[: len(names)]:
                weight.requires_grad_(True)
            return sums_and_gradients(*doubled, of=copy.deepcopy(model).double())

        expected = sums_and_gradients(*inputs)
        require_same(found, expected, exactly, "sums of errors and their gradient")

    def __call__(self, coefficients: Tensor, inputs: Sequence[Tensor]) -> Tensor:
        """The weighted sum, which can be differentiated by the weights.

        Args:
            coefficients: The weight of each sum.
        """
        weights = list(self._parameters.values())
        loss: Tensor = _Known.apply(self._program, len(weights), *weights, coefficients, *inputs)
        return loss


class _Known(torch.autograd.Function):
    """A loss whose gradient was computed together with it."""

    @staticmethod
    def forward(ctx: Any, program: Function, n: int, *tensors: Tensor) -> Tensor:
        sums, *gradients = program(*tensors)
        ctx.save_for_backward(*gradients)
        ctx.rest = len(tensors) - n
        return (tensors[n] * sums).sum()

    @staticmethod
    def backward(ctx: Any, outward: Tensor) -> Any:
        return None, None, *(outward * g for g in ctx.saved_tensors), *([None] * ctx.rest)


class _Measured(nn.Module):
    """What `functional_call` can call with other weights."""

    def __init__(self, model: nn.Module, measure: Callable[..., Tensor]):
        super().__init__()
        self.model = model
        self._measure = measure

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._measure(self.model, *inputs)


def _prefixed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"model.{name}": value for name, value in weights.items()}
