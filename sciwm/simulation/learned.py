"""A trained model as a simulator: the world that imagination runs in."""

import copy
from collections.abc import Sequence

import torch

from sciwm.core.neighbours import NeighbourTable, SkinTable, attach_pairs
from sciwm.core.state import State
from sciwm.core.threads import on_threads, threads_for
from sciwm.core.units import UnitSystem
from sciwm.models.archive import weights_digest
from sciwm.models.dynamics.force_error import FARTHER
from sciwm.models.dynamics.potential import Potential, largest_table
from sciwm.models.geometry import Geometry
from sciwm.models.heads.charges import centre_of_mass
from sciwm.models.outcome_model import OutcomeModel
from sciwm.models.programs.compilation import CompiledPotential
from sciwm.simulation.simulator import Evaluation, SimulatorError, require_no_period


class LearnedSimulator:
    """Energies and forces of a learned potential, with a neighbour table that outlives a step.

    Of an `OutcomeModel` it also tells the properties.

    Args:
        model: The potential; it is put into evaluation mode.
        skin: Extra neighbour distance; the table is rebuilt when an atom has moved half of it.
        differentiable: Whether gradients run through energies and forces.
    """

    def __init__(self, model: Potential, skin: float = 0.5, differentiable: bool = False):
        self.model = model.eval()
        self._differentiable = differentiable
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self._dtype = next(model.parameters()).dtype
        self._skin = skin
        self._particles: tuple[torch.Tensor, ...] | None = None
        self._neighbours = SkinTable(model.cutoff, skin)
        self._offset = torch.zeros(0)
        self._all_seen = self._charges_seen = False
        # Asked at every frame, for a table that lasts for many.
        self._nearest: tuple[NeighbourTable, torch.Tensor] | None = None

    @property
    def units(self) -> UnitSystem:
        return self.model.units

    @property
    def fingerprint(self) -> str:
        """Tells its model from every other, and not whether there is a program for it."""
        return weights_digest(self._written)

    @property
    def _written(self) -> Potential:
        return self.model.model if isinstance(self.model, CompiledPotential) else self.model

    def evaluate(self, state: State, stress: bool = False) -> Evaluation:
        """See `Simulator`.

        Raises:
            UnseenSpeciesError: If a particle type was not in the training data; it names the systems,
                so that the others can be evaluated without them.
        """
        state = self._recognised(state)
        self._require_species(state)
        if self._differentiable:
            where = state.moved(state.positions.detach(), state.velocities)
            table = self._neighbours.update(where)
            found = self.model(state, table, stress=stress, differentiable=True)
        else:
            table = self._neighbours.update(state)
            found = self.model(state, table, stress=stress)
        energy, forces, tension, error = found
        return Evaluation(energy + self._offset, forces, tension, error)

    def with_gradients(self) -> "LearnedSimulator":
        """The same, through which gradients run: of the model as it is written, without a program."""
        return LearnedSimulator(self._written, self._skin, differentiable=True)

    def outside(self, state: State, evaluation: Evaluation) -> dict[int, str]:
        state = self._recognised(state)
        table = self._neighbours.update(state)
        if self._all_seen and self._charges_seen and not self._unsure(evaluation):
            if self._nearest is None or self._nearest[0] is not table:
                nearest = self.model.domain.nearest(
                    state.numbers, table.sender, table.real, self.model.cutoff
                )
                self._nearest = table, nearest
            vectors = table.vectors(state.positions, state.cell, state.batch)
            squares = vectors.square().sum(-1)
            if self.model.domain.within(self._nearest[1], squares, evaluation.forces):
                return {}
        return outside(self.model, state, table, evaluation)

    def _unsure(self, evaluation: Evaluation) -> bool:
        error = evaluation.force_error
        return error is not None and bool((error > self.model.largest_error).any())

    def observe(self, state: State, names: Sequence[str]) -> dict[str, torch.Tensor]:
        """See `PropertySimulator`.

        Raises:
            SimulatorError: If the model has no head for a property, or a system has none.
            UnseenSpeciesError: As for `evaluate`.
        """
        model = self._written
        offered = model.properties if isinstance(model, OutcomeModel) else ()
        missing = [name for name in names if name not in offered]
        if missing or not isinstance(model, OutcomeModel):
            raise SimulatorError(
                f"the model does not predict {', '.join(missing)}; it offers energies, forces"
                f"{''.join(f', {name}' for name in offered)}. Train one with a head for it "
                "(sciwm.training.OutcomeTask)"
            )
        state = self._recognised(state)
        self._require_species(state)
        table = self._neighbours.update(state)
        with (
            torch.no_grad(),
            on_threads(threads_for(largest_table(state, table), self.model.threads)),
        ):
            found = model.observe(state, table)
        for name in names:
            whole = found[name].reshape(len(found[name]), -1).isfinite().all(dim=1)
            if not bool(whole.all()):
                row = int(torch.nonzero(~whole)[0, 0])
                s = row if len(whole) == state.n_systems else int(state.batch[row])
                raise SimulatorError(
                    f"system {s} has no {name}"
                    + (": it repeats, so its dipole is not defined" if name == "dipole" else ""),
                    s,
                )
        return {name: found[name] for name in names}

    @property
    def feels_fields(self) -> bool:
        """See `FieldSimulator`."""
        model = self._written
        return isinstance(model, OutcomeModel) and "dipole" in model.properties

    def field_response(
        self, state: State, field: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `FieldSimulator`; by the dipole μ of the model: -μ·E, and its slopes. The energy of
        the dipole that the field makes is left out, which grows with its square."""
        model = self._written
        assert isinstance(model, OutcomeModel)
        require_no_period(state)
        state = self._recognised(state)
        self._require_species(state)
        where = state.moved(state.positions.detach())
        table = self._neighbours.update(where)
        threads = threads_for(largest_table(where, table), self.model.threads)
        with torch.enable_grad(), on_threads(threads):
            positions = where.positions.requires_grad_()
            if self._differentiable and state.positions.requires_grad:
                positions = state.positions
            where.positions = positions
            # An ion's dipole is told about its centre of mass.
            arm = state.total_charge[:, None] * centre_of_mass(where)
            dipole = model.observe(where, table)["dipole"] + arm
            energy = -(dipole * field.to(dipole)).sum(-1)
            (slope,) = torch.autograd.grad(
                energy.sum(), positions, create_graph=self._differentiable
            )
        return energy if self._differentiable else energy.detach(), -slope

    def _recognised(self, state: State) -> State:
        """The state in the model's precision; what depends on who is there is made anew if that changed."""
        state = self._in_model_precision(state)
        known = self._particles
        present = (state.numbers, state.batch, state.total_charge)
        if known is None or not all(map(torch.equal, present, known)):
            self._all_seen = bool(self.model.domain.seen[state.numbers].all())
            self._charges_seen = self.model.domain.covers_charges(state.total_charge)
            self._particles = tuple(one.clone() for one in present)
            self._neighbours = SkinTable(self.model.cutoff, self._skin)
            self._offset = self.model.total_offset(state)
        return state

    def _require_species(self, state: State) -> None:
        if not self._all_seen:
            self.model.domain.require_species(state.numbers, state.batch)

    def _in_model_precision(self, state: State) -> State:
        if state.positions.dtype == self._dtype:
            return state
        cast = copy.copy(state)
        for key in _PHYSICAL:
            cast[key] = state[key].to(self._dtype)
        return cast


_PHYSICAL = ("positions", "masses", "charges", "total_charge", "cell")
"""Of what models read, the fields that have a precision."""


def outside(
    model: Potential, state: State, table: NeighbourTable, evaluation: Evaluation
) -> dict[int, str]:
    """Systems beyond what the model's training covered, each with the reason."""
    vectors = table.vectors(state.positions, state.cell, state.batch)
    geometry = Geometry.of(state, table, vectors, model.beyond)
    reasons = model.domain.outside(geometry, evaluation.forces, model.cutoff)
    if evaluation.force_error is not None:
        unsure = torch.nonzero(evaluation.force_error > model.largest_error)[:, 0]
        for atom in unsure.tolist():
            reasons.setdefault(
                int(state.batch[atom]),
                f"the force on atom {atom} may be wrong by {float(evaluation.force_error[atom]):.3g} "
                f"{model.units.force}, more than {FARTHER:g} times the most that was expected of frames "
                "held back in training",
            )
    return reasons


def predict(model: Potential, state: State, stress: bool = False) -> Evaluation:
    """One evaluation of states that do not follow one another."""
    attach_pairs(state, model.cutoff)
    table = NeighbourTable.from_pairs(state)
    energy, forces, tension, error = model(state, table, stress=stress)
    return Evaluation(energy.double() + model.total_offset(state), forces, tension, error)
