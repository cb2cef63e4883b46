"""A tree over what is done stage after stage, for things that are chosen by name."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sciwm.core.bounds import require_not_negative
from sciwm.core.frame import Array
from sciwm.planning.controls import Controls, Menu
from sciwm.planning.planners.planner import Planner, Round


@dataclass(frozen=True, kw_only=True)
class Tree(Planner):
    """Upper confidence bounds on a tree (Kocsis & Szepesvári, ECML 2006, equation 1). What a choice is worth
    is the best merit below it and no mean: later choices are the planner's own. Nothing is tried twice;
    when all has been tried, the search is over.

    Attributes:
        exploration: Weight of what is not known yet, against the range of merits.
    """

    population: int = 16
    rounds: int = 16
    exploration: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(exploration=self.exploration)

    def require_fitting(self, controls: Controls) -> None:
        if not isinstance(controls, Menu):
            raise ValueError(
                "a Tree is for a menu of named things to do; give a menu, or another planner"
            )

    def ask(self, history: Sequence[Round], controls: Controls, rng: np.random.Generator) -> Array:
        assert isinstance(controls, Menu)
        choices = len(controls.names)
        tree = _Branches(choices, controls.stages, self.exploration)
        for one in history:
            counted = np.where(one.lost == 0, one.merits, np.nan)
            chosen = controls.chosen(torch.as_tensor(one.plans)).tolist()
            for sequence, merit in zip(chosen, counted, strict=True):
                tree.add(tuple(sequence), None if np.isnan(merit) else float(merit))
        found: list[tuple[int, ...]] = []
        while len(found) < self.population and not tree.exhausted(()):
            found.append(tree.next(rng))
            tree.add(found[-1], None)
        plans = (np.array(found, dtype=float).reshape(-1, controls.stages, 1) + 0.5) / choices
        return np.asarray(plans)


class _Branches:
    """What is known below each beginning of a sequence."""

    def __init__(self, choices: int, depth: int, exploration: float):
        self._choices, self._depth, self._exploration = choices, depth, exploration
        self._visits: dict[tuple[int, ...], int] = {}
        self._best: dict[tuple[int, ...], float] = {}
        self._worst = math.inf

    def add(self, sequence: tuple[int, ...], merit: float | None) -> None:
        """A sequence that was tried, or will be; without a merit that is not known or of lost runs."""
        if merit is not None:
            self._worst = min(self._worst, merit)
        for length in range(self._depth + 1):
            beginning = sequence[:length]
            self._visits[beginning] = self._visits.get(beginning, 0) + 1
            if merit is not None:
                self._best[beginning] = max(self._best.get(beginning, -math.inf), merit)

    def exhausted(self, beginning: tuple[int, ...]) -> bool:
        """Whether nothing is left to try below."""
        left = self._choices ** (self._depth - len(beginning))
        return self._visits.get(beginning, 0) >= left

    def next(self, rng: np.random.Generator) -> tuple[int, ...]:
        """The sequence that promises most."""
        beginning: tuple[int, ...] = ()
        while len(beginning) < self._depth:
            below = [(*beginning, choice) for choice in rng.permutation(self._choices).tolist()]
            bounds = {one: self._bound(one) for one in below if not self.exhausted(one)}
            beginning = max(bounds, key=lambda one: bounds[one])
        return beginning

    def _bound(self, beginning: tuple[int, ...]) -> float:
        visits = self._visits.get(beginning, 0)
        if visits == 0:
            return math.inf
        value = 0.0
        if beginning in self._best:
            span = max(self._best[()] - self._worst, 1e-12)
            value = (self._best[beginning] - self._worst) / span
        return value + self._exploration * math.sqrt(
            math.log(self._visits[beginning[:-1]]) / visits
        )
