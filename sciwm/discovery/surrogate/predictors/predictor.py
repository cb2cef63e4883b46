"""What a campaign needs of a model: outcomes of molecules that nobody measured, and how sure it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sciwm.core.frame import Array


@dataclass(frozen=True, eq=False)
class Expectation:
    """Outcomes of N molecules.

    Attributes:
        mean: (N, K) in the units of the outcomes; NaN where nothing can be said.
        spread: (N, K) one standard deviation, not yet calibrated.
        flags: Why a molecule's values are not to be trusted; None where they are.
    """

    mean: Array
    spread: Array
    flags: list[str | None]


class Predictor(Protocol):
    """Learns K outcomes from measured molecules and predicts them for others."""

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Names of the K outcomes, the columns of all arrays."""

    @property
    def version(self) -> str:
        """Changes whenever its predictions may have changed."""

    def fit(self, smiles: Sequence[str], values: Array) -> None:
        """Learns from all that was measured, (N, K) with NaN where an outcome is missing."""

    def predict(self, smiles: Sequence[str]) -> Expectation:
        """What it expects of molecules it may or may not have seen."""
