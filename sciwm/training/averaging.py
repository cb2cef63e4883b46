"""The running average of weights that training keeps."""

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

AVERAGED_EVERY = 5
"""Steps between weights that enter the average: copying all of them at each would slow small models."""


class RunningAverage(WeightAveraging):
    """An exponential average of the weights, which is what is validated and kept.

    It forgets faster at first, so that short runs outgrow their start.

    Args:
        decay: Of the average, per step.
    """

    def __init__(self, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(
                f"an average of weights keeps a share of what it was, from 0 up to 1, got ema_decay {decay}"
            )

        @torch.no_grad()
        def update(average: list[Tensor], current: list[Tensor], updates: Tensor) -> None:
            n = float(updates)
            kept = min(decay**AVERAGED_EVERY, (1 + n) / (10 + n))
            torch._foreach_lerp_(average, current, 1 - kept)

        super().__init__(use_buffers=False, multi_avg_fn=update)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and step_idx % AVERAGED_EVERY == 0
