"""Electric fields on charges that a simulator finds itself: by the dipole of a model, and in GFN2-xTB."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from test_outcome_model import outcome_model, shaken

import sciwm
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR
from sciwm.models.heads.charges import ChargeHead, DipoleHead
from sciwm.simulation.actions import (
    ChargeChange,
    During,
    Frozen,
    MassChange,
    UniformField,
    acted,
    actions_from,
)
from sciwm.simulation.learned import LearnedSimulator
from sciwm.simulation.propagators import GHMC, Langevin, VelocityVerlet
from sciwm.simulation.references.xtb import GFN2
from sciwm.simulation.rollout import unroll
from sciwm.simulation.simulator import SimulatorError
from sciwm.simulation.velocities import kinetic_energy

FIELD = torch.tensor([[0.05, -0.03, 0.02]], dtype=torch.float64)  # V/Å


def learned(charge=0.0):
    model = outcome_model(made_of=[ChargeHead(8), DipoleHead(8)]).double()
    state = shaken("CH3CH2OH", charge=charge)
    for key in ("positions", "masses", "charges", "total_charge", "cell"):
        state[key] = state[key].double()
    return LearnedSimulator(model), state


def water():
    atoms = molecule("H2O")
    atoms.positions += np.random.default_rng(1).normal(0, 0.05, (3, 3))
    return State.from_frame(State.from_ase(atoms).frame(0), torch.float64)


def slopes(energy, positions, shift):
    """(A, 3) by central differences."""
    found = torch.zeros_like(positions)
    for k in range(positions.numel()):
        ends = []
        for sign in (1.0, -1.0):
            moved = positions.clone().flatten()
            moved[k] += sign * shift
            ends.append(energy(moved.reshape(-1, 3)))
        found.view(-1)[k] = (ends[0] - ends[1]) / (2 * shift)
    return found


class TestResponse:
    @pytest.mark.parametrize("charge", [0.0, 1.0])
    def test_forces_are_the_slopes_of_energies_and_add_up_to_the_charge(self, charge):
        simulator, state = learned(charge)
        energy, forces = simulator.field_response(state, FIELD)
        dipole = simulator.observe(state, ["dipole"])["dipole"]
        if not charge:
            assert float(energy) == pytest.approx(-float((dipole * FIELD).sum()), abs=1e-12)

        def at(positions):
            return float(simulator.field_response(state.moved(positions), FIELD)[0])

        assert torch.allclose(-slopes(at, state.positions, 1e-4), forces, atol=1e-7)
        torch.testing.assert_close(forces.sum(0), charge * FIELD[0], rtol=0, atol=1e-9)
        # Charges that stayed as they are would pull otherwise.
        charges = simulator.observe(state, ["charges"])["charges"]
        assert (forces - charges[:, None] * FIELD).abs().max() > 1e-4

    def test_the_reference_agrees_with_its_own_dipole_and_its_energies(self):
        reference, state = GFN2(accuracy=1e-3), water()
        small = 0.01 * FIELD
        energy, forces = reference.field_response(state, small)
        dipole = reference.observe(state, ["dipole"])["dipole"]
        first = -float((dipole * small).sum())
        assert float(energy) == pytest.approx(first, rel=0.02)
        assert float(energy) != pytest.approx(-first, rel=0.5)

        def at(positions):
            return float(reference.field_response(state.moved(positions), FIELD)[0])

        forces = reference.field_response(state, FIELD)[1]
        assert torch.allclose(-slopes(at, state.positions, 2e-3), forces, atol=2e-4)
        assert forces.abs().max() > 5e-3
        assert torch.allclose(forces.sum(0), torch.zeros(3, dtype=torch.float64), atol=1e-6)

    def test_many_at_once_in_fields_of_their_own(self):
        reference, state = GFN2(), water()
        two = State.collate([state, state])
        fields = torch.cat([FIELD, -2 * FIELD])
        energy, forces = reference.field_response(two, fields)
        for k in range(2):
            alone = GFN2().field_response(state, fields[k : k + 1])
            assert float(energy[k]) == pytest.approx(float(alone[0]), abs=1e-6)
            assert torch.allclose(forces[3 * k : 3 * k + 3], alone[1], atol=1e-5)

    def test_the_world_that_comes_with_sciwm_feels_what_the_reference_does(self):
        world = sciwm.load("organic")
        state = world.state(world.relax("CCO"))
        field = torch.tensor([[0.05, 0.0, 0.0], [0.0, 0.05, 0.0], [0.0, 0.0, 0.05]])
        many = State.collate([state] * 3)
        told = world.simulator().field_response(many, field)
        true = GFN2().field_response(many, field)
        for one, other in zip(told, true, strict=True):
            # A fifth is off, of which a part is that the field makes a dipole of its own.
            assert (one - other).square().mean() < 0.3**2 * other.square().mean()
            assert (one + other).square().mean() > other.square().mean()

    def test_a_system_that_repeats_has_no_dipole(self):
        simulator, state = learned()
        state.pbc[:] = True
        with pytest.raises(SimulatorError, match="system 0 repeats"):
            simulator.field_response(state, FIELD)


class TestMotion:
    @pytest.mark.parametrize("kind", ["learned", "reference"])
    def test_what_the_field_does_is_what_the_molecule_gains(self, kind):
        """Kinetic and potential energy, and that in the field, stay together."""
        simulator, state = learned() if kind == "learned" else (GFN2(accuracy=0.01), water())
        state.velocities = torch.zeros_like(state.positions)
        strong = 10 * FIELD
        field = [UniformField(strong[0].tolist())]
        motion, start = acted(VelocityVerlet(simulator, 0.05), state, field)
        first = motion.start(start)
        *_, (last, evaluation) = unroll(motion, start, first, 40)
        gained = kinetic_energy(last, MOLECULAR) + evaluation.energy - first.energy
        outer = [simulator.field_response(one, strong)[0] for one in (start, last)]
        assert float(last.work) == pytest.approx(float(outer[0] - outer[1]), rel=0.01)
        assert float(last.work) == pytest.approx(float(gained), rel=0.02)
        assert abs(float(last.work)) > 1e-4

    def test_the_end_of_a_step_is_asked_about_once(self):
        simulator, state = learned()
        asked = []
        told = simulator.field_response
        simulator.field_response = lambda *given: asked.append(1) or told(*given)
        field = [UniformField([0.1, 0.0, 0.0])]
        motion, start = acted(VelocityVerlet(simulator, 0.1), state, field)
        list(unroll(motion, start, motion.start(start), 5))
        assert len(asked) == 6
        # Also where energies count, and where particles are put back.
        held = GHMC(VelocityVerlet(simulator, 0.1), 300.0, 0.1)
        for motion, done in ((held, []), (Langevin(simulator, 0.1, 300.0, 0.1), [Frozen([0])])):
            asked.clear()
            moving, start = acted(motion, state, [*field, *done])
            list(unroll(moving, start, moving.start(start), 5))
            assert len(asked) == 6

    def test_charges_that_are_given_go_before(self):
        simulator, state = learned()
        given = UniformField([0.1, 0.0, 0.0], charges=[0.1] * 9)
        motion, _ = acted(VelocityVerlet(simulator, 0.1), state, [given])
        assert motion.actions[0].own is None

    def test_it_is_written_and_read_as_it_was_given(self):
        simulator, state = learned()
        field = During(0.0, 1.0, [UniformField(["0.1 V/Å", 0.0, 0.0])])
        motion, _ = acted(VelocityVerlet(simulator, 0.1), state, [MassChange([8], 2.0), field])
        written = [one.written() for one in motion.actions]
        assert "own" not in str(written)
        again, _ = acted(VelocityVerlet(simulator, 0.1), state, actions_from(written))
        assert again.parameters == motion.parameters

    def test_it_is_asked_for_anew_by_each_motion(self):
        simulator, state = learned()
        motion, _ = acted(VelocityVerlet(simulator, 0.1), state, [UniformField([0.1, 0, 0])])
        model = outcome_model(made_of=[ChargeHead(8)])
        with pytest.raises(ValueError, match="a model with a dipole"):
            acted(VelocityVerlet(LearnedSimulator(model), 0.1), shaken("H2O"), motion.actions)
        charge, field = ChargeChange([0], 1.0), UniformField([0.1, 0, 0])
        for order in ([charge, field], [field, charge]):
            motion, _ = acted(VelocityVerlet(simulator, 0.1), state, order)
            [kept] = [one for one in motion.actions if isinstance(one, UniformField)]
            assert kept.own is None

    def test_what_it_cannot_act_on_is_told_before_anything_moves(self):
        simulator, state = learned()
        mixed = State.collate([state, state])
        mixed.charges[:9] = 0.1
        with pytest.raises(ValueError, match="of system 1 none do"):
            acted(VelocityVerlet(simulator, 0.1), mixed, [UniformField([0.1, 0, 0])])
        state.pbc[:] = True
        with pytest.raises(ValueError, match="in a system that repeats"):
            acted(VelocityVerlet(simulator, 0.1), state, [UniformField([0.1, 0, 0])])

    def test_simulators_that_find_no_charges_say_so(self):
        model = outcome_model(made_of=[ChargeHead(8)])
        state = shaken("H2O")
        with pytest.raises(ValueError, match="a model with a dipole"):
            acted(VelocityVerlet(LearnedSimulator(model), 0.1), state, [UniformField([1, 0, 0])])

    def test_in_a_user_s_words(self):
        world = sciwm.load("organic")
        field = [UniformField(["0.2 V/Å", 0, 0], frequency="0.02 /fs")]
        answer = world.imagine("O", "4fs", temperature="300K", actions=field)
        without = world.imagine("O", "4fs", temperature="300K")
        apart = answer.frames[-1].positions - without.frames[-1].positions
        assert 1e-5 < abs(apart).max() < 0.1
