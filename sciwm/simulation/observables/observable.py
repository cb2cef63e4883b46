"""A measured number, or curve, that carries its statistical error and its unit."""

from dataclasses import dataclass

import numpy as np

from sciwm.core.frame import Array


@dataclass(frozen=True, eq=False)
class Observable:
    """What was measured, and how well.

    Attributes:
        name: As it would head a table column.
        value: A number, or (X,) along a curve.
        error: One standard error, shaped like `value`; NaN where the data cannot tell.
        unit: Empty for plain numbers and reduced units.
        x: (X,) where along a curve: distances, lag times, wavenumbers.
        x_name, x_unit: What `x` is.
    """

    name: str
    value: float | Array
    error: float | Array
    unit: str
    x: Array | None = None
    x_name: str = ""
    x_unit: str = ""

    def __str__(self) -> str:
        if self.x is not None:
            unit = f" {self.x_unit}" if self.x_unit else ""
            return (
                f"{self.name} at {len(self.x)} points, {self.x_name} "
                f"{self.x[0]:.4g} to {self.x[-1]:.4g}{unit}"
            )
        unit = f" {self.unit}" if self.unit else ""
        if not 1e-4 < self.error < np.inf:
            return f"{self.name} {self.value:.6g} ± {self.error:.2g}{unit}"
        digits = max(0, 1 - int(np.floor(np.log10(self.error))))
        return f"{self.name} {self.value:.{digits}f} ± {self.error:.{digits}f}{unit}"
