"""Relaxation: the nearest minimum of energy, for many systems at once.

One method, L-BFGS (Nocedal & Wright, Numerical Optimization, algorithm 7.4), with each system's own
memory and trust radius in one batch: on molecules and clusters it needs a quarter to a half of the
evaluations that FIRE does. What is stiff in a molecule and what is soft it takes from a model of the
curvature (`model_hessian`; H. B. Schlegel, Theor. Chim. Acta 66, 333 (1984)) until steps have told,
which saves half to three quarters of them again. A step is judged by the slope along it and not by the
energy, for in single precision the energy of a large system is coarser than what a step near the minimum
gains.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciwm.core.progress import Bar
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.simulation.model_hessian import NON_METALS, model_step
from sciwm.simulation.simulator import Evaluation, Simulator, SimulatorError

_LARGEST_STEP = 0.2
"""How far an atom may go in one step, in units of length; bonds are about five times longer."""

_STALLED = 1e-6
"""A trust radius below which something is wrong with the forces."""

_STALL_REASON = (
    "no step is short enough: the forces change by leaps, or there is no energy beside this state"
)

_STIFFNESS = 70.0
"""Curvature guessed where there is no model of it, in eV/Å² or ε/σ²: that of a bond."""

_LARGEST_MODELLED = 300
"""Atoms of the largest molecule whose curvature is modelled: beyond, its matrix costs more than it saves."""

_MEMORY = 30
"""Past steps from which curvature is known."""


@dataclass(frozen=True, eq=False)
class RelaxationResult:
    """Where each system came to rest.

    Attributes:
        state: With the energy and forces of every system, at rest.
        energy: (S,).
        fmax: (S,) the largest force on an atom; where the cell relaxes, the largest row of the
            virial per atom counts as well.
        steps: (S,) int64, steps taken.
        converged: (S,) bool, at rest at a place where the simulator is to be trusted.
        reasons: Why a system failed or was left when time was up; None where it converged or ran out of
            steps.
    """

    state: State
    energy: Tensor
    fmax: Tensor
    steps: Tensor
    converged: Tensor
    reasons: list[str | None]


def relax(
    simulator: Simulator,
    state: State,
    fmax: float = 0.05,
    max_steps: int = 500,
    relax_cell: bool = False,
    max_seconds: float | None = None,
) -> RelaxationResult:
    """Moves every system downhill until its largest force is below `fmax`.

    A system that converged is left alone while the others go on. Where no energy can be had after
    a step, a shorter one is tried.

    Args:
        fmax: In the units' force.
        relax_cell: Lets the box relax together with the atoms (Tadmor et al., Phys. Rev. B 59, 235
            (1999)): positions are x Fᵀ and the cell C₀ Fᵀ, for the deformation F.
        max_seconds: Wall time after which no further step is begun.

    Raises:
        ValueError: If the cell is to relax of a system that does not repeat in three directions.
    """
    if fmax <= 0:
        raise ValueError(f"forces cannot fall below {fmax=}; give a positive one")
    if relax_cell and not bool(state.pbc.all()):
        raise ValueError("only systems that repeat in all three directions have a cell to relax")
    walk = _Walk(simulator, state.moved(state.positions), relax_cell)
    rest: dict[int, _Rest] = {}
    bar = Bar(total=state.n_systems, unit="system", delay=2.0, miniters=0)
    began = time.monotonic()
    walk.begin(rest)
    while walk.systems:
        converged = walk.fmax < fmax
        late = max_seconds is not None and time.monotonic() - began >= max_seconds
        ended = converged | (walk.trust < _STALLED) | (walk.steps >= max_steps) | late
        if bool(ended.any()):
            reasons = walk.outside()
            for k in torch.nonzero(ended).flatten().tolist():
                if not converged[k] and walk.trust[k] < _STALLED:
                    reasons[k] = _STALL_REASON
                elif late and not converged[k] and walk.steps[k] < max_steps:
                    reasons[k] = (
                        f"the limit of {max_seconds:g} s was reached after {int(walk.steps[k])} steps"
                    )
                rest[walk.systems[k]] = walk.rest(k, reasons.get(k))
            walk.select(torch.nonzero(~ended).flatten().tolist())
        else:
            walk.step()
            bar.set_postfix_str(
                f"step {int(walk.steps.max())}, largest force {float(walk.fmax.max()):.3g} (to {fmax:g})",
                refresh=False,
            )
        bar.update(len(rest) - bar.n)
    bar.close()
    found = [rest[s] for s in range(state.n_systems)]
    final = State.collate([one.state for one in found])
    largest = torch.stack([one.fmax for one in found])
    trusted = [one.reason is None for one in found]
    return RelaxationResult(
        state=final,
        energy=final.energy,
        fmax=largest,
        steps=torch.tensor([one.steps for one in found], device=largest.device),
        converged=(largest < fmax) & torch.tensor(trusted, device=largest.device),
        reasons=[one.reason for one in found],
    )


@dataclass(frozen=True, eq=False)
class _Rest:
    """Where one system ended."""

    state: State
    fmax: Tensor
    steps: int
    reason: str | None


class _Walk:
    """The systems still on their way.

    Coordinates are rows: the atoms of all systems, and, where cells relax, three rows per system
    of the deformation times the number of atoms, so that a cell is as stiff as its atoms are.
    """

    def __init__(self, simulator: Simulator, state: State, relax_cell: bool):
        self.simulator = simulator
        self.state = state
        self.relax_cell = relax_cell
        self.systems = list(range(state.n_systems))
        self.cell = state.cell  # undeformed
        like = state.positions
        self.trust = like.new_full((state.n_systems,), _LARGEST_STEP)
        self.fmax = like.new_full((state.n_systems,), torch.nan)
        self.energy = self.fmax.clone()
        self.forces = torch.full_like(like, torch.nan)
        self.steps = torch.zeros(state.n_systems, dtype=torch.int64, device=like.device)
        self.rows = state.batch
        self.coordinates = like
        if relax_cell:
            own = torch.arange(state.n_systems, device=like.device).repeat_interleave(3)
            self.rows = torch.cat([state.batch, own])
            identity = torch.eye(3, dtype=like.dtype, device=like.device)
            scaled = state.counts[:, None, None] * identity
            self.coordinates = torch.cat([like, scaled.reshape(-1, 3)])
        self.gradient = torch.zeros_like(self.coordinates)
        self.past: list[tuple[Tensor, Tensor, Tensor]] = []  # steps s, gradient changes y, sᵀy

    def begin(self, rest: dict[int, _Rest]) -> None:
        """First evaluation; systems that have no energy come to rest at once."""
        while self.systems:
            try:
                self.gradient = self._visit(self.state)
            except SimulatorError as error:
                rest[self.systems[error.system]] = self.rest(error.system, str(error))
                self.select([k for k in range(len(self.systems)) if k != error.system])
            else:
                return

    def step(self) -> None:
        """One step of every system, or for some the discovery that theirs was too long."""
        step = self._downhill()
        slope = self._dot(self.gradient, step)
        energy, forces, fmax = self.energy, self.forces, self.fmax
        tried = torch.ones_like(self.trust, dtype=torch.bool)
        while True:
            coordinates = self.coordinates + step * tried[self.rows][:, None]
            try:
                gradient = self._visit(self._placed(coordinates))
                break
            except SimulatorError as error:
                if not tried[error.system]:
                    raise
                tried[error.system] = False
        # Past the minimum along the step the slope turns; too far past it, the step was too long.
        later = self._dot(gradient, step)
        good = tried & (later <= slope.abs())
        curvature = torch.where(tried & later.isfinite(), later - slope, 0.0)
        known = (curvature > 0)[self.rows][:, None]
        change = torch.where(known, gradient - self.gradient, 0.0)
        self.past = [*self.past, (step, change, curvature)][-_MEMORY:]
        self.trust = torch.where(good, (1.5 * self.trust).clamp(max=_LARGEST_STEP), self.trust / 4)
        self.steps = self.steps + 1
        rows = good[self.rows][:, None]
        self.coordinates = torch.where(rows, coordinates, self.coordinates)
        self.gradient = torch.where(rows, gradient, self.gradient)
        self.state = self._placed(self.coordinates)
        self.energy = torch.where(good, self.energy, energy)
        self.forces = torch.where(good[self.state.batch][:, None], self.forces, forces)
        self.fmax = torch.where(good, self.fmax, fmax)

    def outside(self) -> dict[int, str]:
        """Systems that are where the simulator is not to be trusted, and why.

        Asked of the end only: a strained start may well be outside, and come in as it relaxes.
        """
        found = self.simulator.outside(self.state, Evaluation(self.energy, self.forces))
        return {k: f"left the simulator's domain: {reason}" for k, reason in found.items()}

    def rest(self, k: int, reason: str | None) -> _Rest:
        """One of the systems, as it is now."""
        state = self.state.system(k)
        state.energy = self.energy[k : k + 1]
        state.forces = self.forces[self.state.batch == k]
        return _Rest(state, self.fmax[k], int(self.steps[k]), reason)

    def select(self, keep: Sequence[int]) -> None:
        """Goes on with those systems only."""
        kept = torch.zeros_like(self.trust, dtype=torch.bool)
        kept[list(keep)] = True
        rows, atoms = kept[self.rows], kept[self.state.batch]
        self.past = [(s[rows], y[rows], c[kept]) for s, y, c in self.past]
        self.rows = (torch.cumsum(kept, 0) - 1)[self.rows[rows]]
        self.coordinates, self.gradient = self.coordinates[rows], self.gradient[rows]
        self.forces = self.forces[atoms]
        self.cell, self.trust, self.fmax = self.cell[kept], self.trust[kept], self.fmax[kept]
        self.energy, self.steps = self.energy[kept], self.steps[kept]
        self.state = self.state.select(keep)
        self.systems = [self.systems[k] for k in keep]

    def _downhill(self) -> Tensor:
        """The step that L-BFGS proposes, cut to the trust radius of each system."""
        q = self.gradient
        shares = []
        for s, y, curvature in reversed(self.past):
            known = curvature > 0
            share = torch.where(known, self._dot(s, q) / curvature.where(known, 1.0), 0.0)
            shares.append(share)
            q = q - share[self.rows][:, None] * y
        q = self._over_expected_curvature(q)
        for (s, y, curvature), share in zip(self.past, reversed(shares), strict=True):
            known = curvature > 0
            back = torch.where(known, self._dot(y, q) / curvature.where(known, 1.0), 0.0)
            q = q + (share - back)[self.rows][:, None] * s
        longest = _largest_row(q, self.rows, len(self.trust))
        cut = (self.trust / longest.clamp(min=torch.finfo(q.dtype).tiny)).clamp(max=1.0)
        return -q * cut[self.rows][:, None]

    def _over_expected_curvature(self, q: Tensor) -> Tensor:
        """Rows of a gradient over the curvature of what past steps do not tell."""
        inverse = torch.full_like(self.trust, 1.0 / _STIFFNESS)
        for _, y, curvature in self.past:
            known = curvature > 0
            # The newest pair that is known sets the scale of what the older ones do not tell.
            inverse = torch.where(known, curvature / self._dot(y, y).where(known, 1.0), inverse)
        step = inverse[self.rows][:, None] * q
        modelled = self._modelled()
        if bool(modelled.any()):
            molecules = self.state.select(torch.nonzero(modelled).flatten().tolist())
            step[modelled[self.rows]] = model_step(molecules, q[modelled[self.rows]])
        return step

    def _modelled(self) -> Tensor:
        """(S,) bool, the molecules whose curvature there is a model of."""
        state = self.state
        if self.simulator.units is not MOLECULAR:
            return torch.zeros_like(self.trust, dtype=torch.bool)
        metals = ~torch.isin(state.numbers, torch.tensor(NON_METALS, device=state.numbers.device))
        without = (
            torch.zeros_like(self.trust).index_add_(0, state.batch, metals.to(self.trust)) == 0
        )
        return without & ~state.pbc.any(dim=1) & (state.counts <= _LARGEST_MODELLED)

    def _visit(self, state: State) -> Tensor:
        """The gradient over coordinates there; keeps energy, forces and fmax.

        Raises:
            SimulatorError: If some system has no energy there.
        """
        evaluation = self.simulator.evaluate(state, stress=self.relax_cell)
        self.energy, self.forces = evaluation.energy, evaluation.forces.to(state.positions)
        self.fmax = _largest_row(self.forces, state.batch, state.n_systems)
        if evaluation.stress is None:
            return -self.forces
        volume = torch.linalg.det(state.cell).abs()[:, None, None]
        virial = volume * evaluation.stress.to(volume) / state.counts[:, None, None]
        self.fmax = torch.maximum(self.fmax, virial.norm(dim=-1).amax(dim=-1))
        deformation = torch.linalg.solve(self.cell, state.cell).mT
        atoms = -torch.einsum("ai,aij->aj", self.forces, deformation[state.batch])
        cells = virial @ torch.linalg.inv(deformation).mT
        return torch.cat([atoms, cells.reshape(-1, 3)])

    def _placed(self, coordinates: Tensor) -> State:
        """The state that coordinates describe."""
        if not self.relax_cell:
            return self.state.moved(coordinates)
        n = self.state.num_nodes
        scaled = coordinates[n:].reshape(-1, 3, 3)
        deformation = scaled / self.state.counts[:, None, None]
        turned = deformation.mT
        positions = torch.einsum("ai,aij->aj", coordinates[:n], turned[self.state.batch])
        state = self.state.moved(positions)
        state.cell = self.cell @ turned
        return state

    def _dot(self, a: Tensor, b: Tensor) -> Tensor:
        """(S,) scalar products of rows, system by system."""
        products = (a * b).sum(-1)
        return products.new_zeros(len(self.trust)).index_add_(0, self.rows, products)


def _largest_row(values: Tensor, rows: Tensor, n_systems: int) -> Tensor:
    """(S,) the longest row of each system."""
    lengths = values.norm(dim=-1)
    return lengths.new_zeros(n_systems).scatter_reduce(0, rows, lengths, "amax")
