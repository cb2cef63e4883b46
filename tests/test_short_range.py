"""Whatever was learned, atoms that collide repel and free atoms have their own energies."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.data import covalent_radii
from ase.units import Bohr, Hartree
from scipy.constants import physical_constants

from sciwm.core.frame import Frame
from sciwm.core.neighbours import NeighbourTable, attach_pairs
from sciwm.core.state import State
from sciwm.evaluation.checks.dissociation import dissociation_checks
from sciwm.models import Encoder, ForceField
from sciwm.models.domain import STRONGER, Domain
from sciwm.models.dynamics import short_range
from sciwm.models.dynamics.bonding import bond_weight, saturated
from sciwm.models.dynamics.short_range import APART, INNER, MANY_BONDS, OUTER, TOUCHING, ShortRange
from sciwm.models.geometry import Geometry
from sciwm.models.statistics import Statistics, survey
from sciwm.simulation.learned import LearnedSimulator, outside, predict

CUTOFF = 4.0
ENERGIES = {"H": -13.6, "C": -1026.0, "O": -2037.0}

pytestmark = pytest.mark.usefixtures("double")


def ethanol(seed=0, spread=0.03):
    atoms = molecule("CH3CH2OH")
    rng = np.random.default_rng(seed)
    places = atoms.positions + spread * rng.standard_normal(atoms.positions.shape)
    return Frame(numbers=atoms.numbers, positions=places)


def labelled(seed):
    """Ethanol whose energy is that of its atoms less 4 eV for each of its eight bonds."""
    frame = ethanol(seed)
    free = sum(ENERGIES[symbol] for symbol in molecule("CH3CH2OH").symbols)
    forces = np.random.default_rng(seed).standard_normal((9, 3))
    return frame.with_(energy=free - 8 * 4.0, forces=forces)


def wild(seed=0, strength=30.0, **options):
    """A force field with large random weights, which knows ethanol: the worst that can be learned."""
    torch.manual_seed(seed)
    model = ForceField(Encoder(CUTOFF, 8, 2, 2), reference_energies=ENERGIES, **options)
    model.adapt(
        survey([labelled(k) for k in range(20)], CUTOFF, model.units, model.reference_table())
    )
    with torch.no_grad():
        for parameter in model.readouts.parameters():
            parameter.mul_(strength)
    return model.eval()


def energy(model, numbers, positions):
    frame = Frame(numbers=np.array(numbers), positions=np.array(positions, dtype=float))
    found = predict(model, State.from_frame(frame, torch.float64)).energy
    return float(found) - sum(float(model.reference_table()[z]) for z in numbers)


def pair_energies(model, first, second, distances):
    return np.array([energy(model, [first, second], [[0, 0, 0], [r, 0, 0]]) for r in distances])


def energy_of_free_atoms(model):
    return max(abs(energy(model, [z], [[0, 0, 0]])) for z in (1, 6, 8))


@pytest.mark.parametrize("z", [1, 6, 8])
def test_a_free_atom_has_its_reference_energy_exactly(z):
    assert energy(wild(), [z], [[0, 0, 0]]) == 0.0
    # Out of reach of all others, it has that energy too, and feels nothing.
    far = [*ethanol().positions, [90.0, 0.0, 0.0]]
    alone = energy(wild(), ethanol().numbers, ethanol().positions)
    assert energy(wild(), [*ethanol().numbers, z], far) == pytest.approx(alone, abs=1e-9)


def test_older_models_have_their_mean_energy_there_instead():
    assert abs(energy(wild(exact_limits=False), [1], [[0, 0, 0]])) > 1.0


@pytest.mark.parametrize("pair", [(1, 1), (1, 6), (1, 8), (6, 6), (6, 8), (8, 8)])
def test_colliding_nuclei_have_the_screened_repulsion_alone(pair):
    """The ZBL potential with SciPy's constants, and nothing that was learned."""
    first, second = pair
    length = 0.88534 * Bohr / (first**0.23 + second**0.23)
    hartree = physical_constants["Hartree energy in eV"][0]
    bohr = physical_constants["Bohr radius"][0] * 1e10
    for r in (0.1, 0.2, 0.4):
        x = r / length
        terms = [(0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029), (0.02817, 0.20162)]
        screening = sum(w * np.exp(-rate * x) for w, rate in terms)
        expected = hartree * bohr * first * second / r * screening
        assert pair_energies(wild(), first, second, [r])[0] == pytest.approx(expected, rel=1e-5)
    assert Hartree == pytest.approx(hartree, rel=1e-6)


def squeezed_energies(seed, **options):
    """Of ethanol's atoms thrown together in many ways, by models whose weights differ in sign."""
    rng = np.random.default_rng(seed)
    models = [wild(seed, strength, **options) for strength in (3000.0, -3000.0)]
    places = [rng.uniform(-0.6, 0.6, (9, 3)) for _ in range(10)]
    return [energy(model, ethanol().numbers, one) for model in models for one in places]


@pytest.mark.parametrize("seed", range(3))
def test_no_squeezed_molecule_falls_into_a_hole(seed):
    assert min(squeezed_energies(seed)) > 0.0


def test_a_repulsion_that_is_only_added_does_not_hold():
    assert min(squeezed_energies(0, exact_limits=False)) < -1000.0


def test_training_configurations_are_not_touched():
    """Contacts begin inside the closest approach, so energies there are what was learned."""
    model = wild()
    state = State.collate([State.from_frame(ethanol(k), torch.float64) for k in range(20)])
    learned = predict(model, state).energy
    model.domain.closest.mul_(0.1)
    assert torch.equal(learned, predict(model, state).energy)
    model.domain.closest.mul_(20.0)
    assert not torch.allclose(learned, predict(model, state).energy)


def test_neighbours_do_not_see_an_atom_that_collides():
    """A third atom has the same energy whether two others coincide there or are not there at all."""
    model = wild()
    model.bond_energy.zero_()
    collided = energy(model, [6, 6, 8], [[0, 0, 0], [0.3, 0, 0], [0.1, 1.4, 0]])
    without_repulsion = collided - pair_energies(model, 6, 6, [0.3])[0]
    assert without_repulsion == pytest.approx(0.0, abs=1e-9)
    model.domain.closest.zero_()
    model.short_range = None
    seen = energy(model, [6, 6, 8], [[0, 0, 0], [0.3, 0, 0], [0.1, 1.4, 0]])
    assert abs(seen - without_repulsion) > 1.0


def slope_jumps(model, first, second, distance):
    """Differences of the force's slope on the two sides of a distance, over shorter and shorter steps."""

    def pull(r):
        frame = Frame(
            numbers=np.array([first, second]), positions=np.array([[0, 0, 0], [r, 0, 0.0]])
        )
        return float(predict(model, State.from_frame(frame, torch.float64)).forces[1, 0])

    found = []
    for step in (1e-3, 2.5e-4):
        left, middle, right = (pull(distance + k * step) for k in (-1, 0, 1))
        found.append(abs(right - 2 * middle + left) / step)
    return found


@pytest.mark.parametrize("pair", [(1, 1), (6, 8), (8, 8)])
@pytest.mark.parametrize("share", [INNER, OUTER])
def test_energy_and_its_two_derivatives_are_continuous_in_distance(pair, share):
    """The force's slope differs by what its own slope makes of a step, which shrinks with the step."""
    model = wild(strength=1.0)
    distance = share * (float(model.domain.closest[pair]) or APART * 2 * covalent_radii[8])
    reach = covalent_radii[pair[0]] + covalent_radii[pair[1]]
    distance = min(distance, share * TOUCHING * reach)
    longer, shorter = slope_jumps(model, *pair, distance)
    assert shorter < 0.5 * longer + 1e-3


def test_a_straight_switch_is_seen_in_the_slope_of_the_force(monkeypatch):
    monkeypatch.setattr(
        short_range, "switch", lambda x, start, stop: ((stop - x) / (stop - start)).clamp(0.0, 1.0)
    )
    model = wild(strength=1.0)
    longer, shorter = slope_jumps(model, 1, 8, OUTER * float(model.domain.closest[1, 8]))
    assert shorter > 2 * longer


def test_bonds_share_what_the_data_is_worth():
    # The last half of a bond of every atom counts half.
    assert 4.0 < float(wild().bond_energy) < 6.0


def test_bonds_pull_at_nothing_where_atoms_are_bound_as_in_training():
    model = wild(strength=0.0)
    frames = [ethanol(k) for k in range(20)]
    state = State.collate([State.from_frame(frame, torch.float64) for frame in frames])
    found = predict(model, state)
    assert float(found.forces.abs().max()) == 0.0
    assert float(found.energy.std()) == pytest.approx(0.0, abs=1e-9)
    # If every bond counted, atoms with a common neighbour would feel one another.
    model.short_range.enough.fill_(100.0)
    assert float(predict(model, state).forces.abs().max()) > 0.1


def test_bonds_of_each_element_are_worth_what_explains_the_data_best():
    """Where composition varies; then nothing of that is left to be learned."""
    worth = {"H": 3.0, "C": 7.0, "O": 5.0}
    frames = []
    for name in ("CH4", "H2O", "CH3CH2OH", "CO2", "C2H4", "H2CO"):
        atoms = molecule(name)
        energy = sum(ENERGIES[symbol] - worth[symbol] for symbol in atoms.symbols)
        forces = np.zeros((len(atoms), 3))
        frames.append(
            Frame(numbers=atoms.numbers, positions=atoms.positions, energy=energy, forces=forces)
        )
    model = wild(strength=0.0)
    model.short_range.enough.fill_(MANY_BONDS)
    model.adapt(survey(frames, CUTOFF, model.units, model.reference_table()))
    state = State.collate([State.from_frame(frame, torch.float64) for frame in frames])
    right = torch.tensor([frame.energy for frame in frames])
    assert float((predict(model, state).energy - right).abs().max()) < 1e-3
    assert energy_of_free_atoms(model) == 0.0
    model.bond_corrections.zero_()
    assert float((predict(model, state).energy - right).abs().max()) > 1.0


def test_one_composition_leaves_all_bonds_alike():
    assert float(wild().bond_corrections.abs().max()) < 1e-9


def test_a_rare_bond_that_was_pulled_does_not_decide_what_all_are_worth():
    for pulled, fewest in ((2, 1.0), (20, 0.2)):
        bonds = {1: np.concatenate([np.ones(10_000 - pulled), np.full(pulled, 0.2)])}
        short_range = ShortRange(CUTOFF)
        short_range.adapt(Statistics(bonds=bonds))
        assert float(short_range.enough[1]) == pytest.approx(fewest)
    # Of few atoms, none is rare.
    short_range = ShortRange(CUTOFF)
    short_range.adapt(Statistics(bonds={1: np.concatenate([np.ones(100), np.full(1, 0.2)])}))
    assert float(short_range.enough[1]) == pytest.approx(0.2)


@pytest.mark.parametrize("enough", [0.0, 0.3, 0.9, 4.0])
def test_further_bonds_count_ever_less_and_then_nothing(enough):
    count = torch.linspace(0.0, 6.0, 601, requires_grad=True)
    found = saturated(count, torch.tensor(enough))
    (slope,) = torch.autograd.grad(found.sum(), count)
    assert bool((slope > -1e-12).all())
    assert bool((slope[count > enough + 1e-9] == 0).all())
    assert bool((slope[(count < enough - 0.5) & (count < enough / 2)] == 1).all())
    assert float(found[0].detach()) == 0.0


def test_bond_weights_go_from_one_to_nothing_before_the_cutoff():
    r = torch.linspace(0.1, 4.0, 500)
    weights = bond_weight(r, torch.tensor(1.5), 2.0)
    assert float(weights[0]) == 1.0
    assert float(weights[r >= 2.0].max()) == 0.0
    assert bool((weights.diff() <= 0).all())


def test_reference_energies_of_another_method_are_noticed():
    torch.manual_seed(0)
    wrong = dict.fromkeys(ENERGIES, 0.0)
    model = ForceField(Encoder(CUTOFF, 8, 1, 1), reference_energies=wrong)
    statistics = survey(
        [labelled(k) for k in range(5)], CUTOFF, model.units, model.reference_table()
    )
    with pytest.warns(UserWarning, match="no bonds account for"):
        model.adapt(statistics)
    # Energies near the data are right all the same.
    state = State.from_frame(labelled(0), torch.float64)
    assert float(predict(model, state).energy) == pytest.approx(labelled(0).energy, rel=1e-2)


def test_a_new_zero_of_energies_keeps_free_atoms_exact():
    model = wild(strength=1.0)
    moved = {symbol: value + 7.0 for symbol, value in ENERGIES.items()}
    model.reference_energies = moved
    frames = [labelled(k).with_(energy=labelled(k).energy + 9 * 7.0 - 8 * 0.5) for k in range(20)]
    statistics = survey(frames, CUTOFF, model.units, model.reference_table())
    state = State.collate([State.from_frame(frame, torch.float64) for frame in frames])
    bare = predict(model, state).energy - model.total_offset(state)
    model.rebase(statistics, bare.detach().numpy())
    assert energy(model, [8], [[0, 0, 0]]) == 0.0
    found = predict(model, state).energy.mean()
    assert float(found) == pytest.approx(np.mean([frame.energy for frame in frames]), abs=1e-6)


def test_elements_that_never_met_are_outside_and_kept_apart():
    model = wild()
    places = [*ethanol().positions, *(ethanol().positions + np.array([0.0, 0.0, 3.0]))]
    frame = Frame(numbers=np.tile(ethanol().numbers, 2), positions=np.array(places))
    state = State.from_frame(frame, torch.float64)
    simulator = LearnedSimulator(model)
    assert "never within the cutoff" in simulator.outside(state, simulator.evaluate(state))[0]
    model.domain.force_max.fill_(torch.inf)
    inside = State.from_frame(ethanol(), torch.float64)
    assert simulator.outside(inside, simulator.evaluate(inside)) == {}
    assert pair_energies(model, 8, 8, [0.8])[0] > 10.0


def test_elements_seen_from_afar_only_are_kept_no_further_apart_than_strangers():
    """Two oxygens that training saw at 3.9 Å and never nearer do not collide before they touch."""
    model = wild()
    model.domain.closest[8, 8] = 3.9
    contacts = []
    for distance in (3.6, 3.2, 2.6):
        pair = Frame(numbers=np.array([8, 8]), positions=np.array([[0, 0, 0], [distance, 0, 0.0]]))
        state = attach_pairs(State.from_frame(pair, torch.float64), CUTOFF)
        table = NeighbourTable.from_pairs(state)
        vectors = table.vectors(state.positions, state.cell, state.batch)
        geometry = Geometry.of(state, table, vectors, CUTOFF)
        contacts.append(float(model.short_range.contacts(geometry, model.domain).max()))
    assert contacts[:2] == [0.0, 0.0]
    assert contacts[2] > 0.9


def test_what_bounds_the_data_is_looked_for_in_all_of_it():
    sample = [labelled(k) for k in range(5)]
    squeezed = labelled(6)
    squeezed.positions[:] *= 0.9
    rare = Frame(numbers=np.array([9, 8]), positions=np.array([[0, 0, 0], [1.4, 0, 0.0]]))
    everything = [*sample, squeezed.with_(total_charge=1.0, forces=np.full((9, 3), 50.0)), rare]
    energies = wild().reference_table()
    found = survey(sample, CUTOFF, wild().units, energies, iter(everything))
    alone = survey(sample, CUTOFF, wild().units, energies)
    assert found.closest[1, 6] < 0.95 * alone.closest[1, 6]
    assert found.closest[8, 9] == pytest.approx(1.4)
    assert 9 in found.species
    assert found.total_charges == [0, 1]
    assert found.force_max == pytest.approx(50 * 3**0.5)
    # Scales are those of the sample.
    assert found.force_rms == alone.force_rms
    assert found.energy_shift == alone.energy_shift


def test_every_system_of_a_batch_that_is_outside_is_named():
    """Also the last, however many pairs of the first are."""
    domain = Domain()
    domain.seen[1] = True
    domain.closest[1, 1] = 5.0
    model = ForceField(Encoder(CUTOFF, 8, 1, 1))
    model.domain = domain
    cluster = Frame(
        numbers=np.ones(12, dtype=np.int64),
        positions=np.random.default_rng(0).uniform(0, 4, (12, 3)),
    )
    state = State.collate([State.from_frame(cluster, torch.float64) for _ in range(3)])
    simulator = LearnedSimulator(model)
    assert sorted(simulator.outside(state, simulator.evaluate(state))) == [0, 1, 2]


@pytest.mark.parametrize("broken", [False, True])
def test_the_quick_look_at_a_frame_passes_nothing_that_the_long_one_names(broken, monkeypatch):
    rng = np.random.default_rng(1)
    states, model = [], ForceField(Encoder(CUTOFF, 8, 1, 1))
    model.domain.seen[[1, 8]] = True
    for pair, distance in (((1, 1), 1.2), ((1, 8), 0.9), ((8, 8), 0.0)):
        model.domain.closest[pair] = model.domain.closest[pair[::-1]] = distance
    for k in range(40):
        frame = Frame(
            numbers=rng.choice([1, 1, 8], size=4),
            positions=rng.uniform(0, 3.0, (4, 3)),
            cell=4.0 * np.eye(3) * (k % 2),
            pbc=np.full(3, k % 2, dtype=bool),
        )
        states.append(State.from_frame(frame, torch.float64))
    simulator, odd = LearnedSimulator(model), 0
    model.domain.force_max.fill_(
        float(
            torch.stack(
                [simulator.evaluate(one).forces.norm(dim=-1).max() for one in states]
            ).median()
        )
        / STRONGER
    )
    if broken:
        monkeypatch.setattr(Domain, "within", lambda self, nearest, squares, forces: True)
    for state in states:
        found = simulator.evaluate(state)
        expected = named_by_the_long_look(model, state.clone(), found)
        odd += simulator.outside(state, found) != expected
        assert (simulator.outside(state, found) == expected) or broken
    assert bool(odd) == broken


def named_by_the_long_look(model, state, found):
    """By the long look alone."""
    table = NeighbourTable.from_pairs(attach_pairs(state, model.cutoff))
    return outside(model, state, table, found)


def checks(model):
    atoms = molecule("H2O")
    water = Frame(numbers=atoms.numbers, positions=1.05 * atoms.positions)
    found = dissociation_checks(model, [State.from_frame(water, torch.float64)])
    return {check.name: check for check in found}


def test_a_sound_model_passes_the_scans():
    found = checks(wild(strength=0.03))
    assert {name: check.status for name, check in found.items()} == dict.fromkeys(found, "pass")
    assert found["weakest bond"].value == pytest.approx(4.0, abs=1.0)


def test_a_model_with_holes_fails_the_scans():
    found = checks(wild(0, 3000.0, exact_limits=False))
    failed = {name for name, check in found.items() if check.status == "fail"}
    assert failed >= {
        "deepest pair",
        "attraction in collisions",
        "free atoms",
        "deepest along bonds",
    }


def test_a_model_whose_bonds_cost_nothing_fails():
    model = wild(strength=0.01)
    model.bond_energy.fill_(-1.0)
    assert checks(model)["weakest bond"].status == "fail"


def test_fitted_reference_energies_are_a_warning():
    model = wild(strength=0.1)
    model.reference_energies = None
    found = checks(model)["free atoms"]
    assert found.status == "warn"
    assert "mean nothing" in found.explanation
