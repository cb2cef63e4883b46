"""Each check passes a sound model and fails one that is broken in just that way."""

import json
import re

import numpy as np
import pytest
import torch
from ase.build import bulk, fcc111, molecule
from broken_models import (
    Abrupt,
    Anchored,
    Bent,
    Boxless,
    Chiral,
    Collapsing,
    Feverish,
    Lopsided,
    Ordered,
    Rising,
    Sociable,
    Strained,
    Swirling,
    Uphill,
    Windy,
)
from scipy import stats

from sciwm.cli import main
from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.core.units import MOLECULAR, REDUCED
from sciwm.data.collection import Collection
from sciwm.data.h5md import H5MDWriter
from sciwm.evaluation.checks.check import collated, judged
from sciwm.evaluation.checks.conservation import (
    Thermal,
    conservation_checks,
    newtonian,
    suitable_step,
    thermal_state,
)
from sciwm.evaluation.checks.cost import cost_checks
from sciwm.evaluation.checks.derivatives import derivative_checks
from sciwm.evaluation.checks.smoothness import smoothness_checks
from sciwm.evaluation.checks.statistics import statistics_checks
from sciwm.evaluation.checks.symmetry import symmetry_checks
from sciwm.evaluation.model_check import check_model, in_double_precision
from sciwm.models import BesselBasis, Encoder, ForceField, InverseMultiquadricBasis, PairPotential
from sciwm.models import archive as archives
from sciwm.models.archive import Archive
from sciwm.models.statistics import survey
from sciwm.simulation.learned import LearnedSimulator, predict

CUTOFF = 2.5


@pytest.fixture(autouse=True)
def _seeded(monkeypatch):
    torch.manual_seed(0)
    # Half of what a model is checked with: faults here are gross.
    monkeypatch.setattr("sciwm.evaluation.checks.statistics.MOST_STEPS", 1000)


def lennard_jones(kind=PairPotential, cutoff=CUTOFF):
    """A pair potential whose coefficients are those of a Lennard-Jones interaction, in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        model = kind(BesselBasis(cutoff, 16), types=2)
    finally:
        torch.set_default_dtype(torch.float32)
    r = torch.linspace(0.85, cutoff, 400, dtype=torch.float64)
    target = 4 * (r**-12 - r**-6)
    # Near contact energies are large and need not be exact.
    weight = 1 / (1 + target.abs())
    basis = model.basis(r) * weight[:, None]
    found = torch.linalg.lstsq(basis, (target * weight)[:, None]).solution[:, 0]
    with torch.no_grad():
        model.neutral.copy_(found.expand(2, 2, -1))
        model.charged.copy_(0.01 * torch.randn_like(model.charged))
    model.domain.seen[:2] = True
    return model.eval()


def cluster(seed=0):
    """Five particles of two types near the bottom of their wells, with different masses."""
    places = 1.12 * np.array(
        [[0, 0, 0], [1, 0, 0], [0.5, 0.87, 0], [0.5, 0.29, 0.82], [0.5, 0.29, -0.82]]
    )
    rng = np.random.default_rng(seed)
    frame = Frame(
        numbers=np.array([0, 1, 0, 1, 1]),
        positions=places + rng.normal(0, 0.02, (5, 3)),
        masses=np.array([1.0, 3.0, 1.0, 3.0, 3.0]),
        charges=np.array([0.1, -0.1, 0.2, 0.0, -0.2]),
    )
    return State.from_frame(frame, torch.float64)


def crystal(seed=0):
    """A skewed periodic box of two particles."""
    cell = np.array([[2.2, 0.0, 0.0], [0.4, 1.6, 0.0], [0.0, 0.3, 1.7]])
    places = np.array([[0.0, 0.0, 0.0], [1.1, 0.2, 0.1]])
    rng = np.random.default_rng(seed)
    frame = Frame(
        numbers=np.array([0, 1]),
        positions=places + rng.normal(0, 0.03, (2, 3)),
        cell=cell,
        pbc=np.ones(3, dtype=bool),
        masses=np.array([1.0, 3.0]),
        charges=np.zeros(2),
    )
    return State.from_frame(frame, torch.float64)


COLD = Thermal(temperature=0.05, step=0.01, dimension=3)


def statuses(checks):
    return {check.name: check.status for check in checks}


def failed(checks):
    return {check.name for check in checks if check.status == "fail"}


def test_a_sound_pair_potential_passes_every_exact_check():
    model = lennard_jones()
    systems = [cluster(), cluster(1)]
    checks = symmetry_checks(model, systems) + derivative_checks(model, systems)
    checks += smoothness_checks(model, systems)
    assert set(statuses(checks).values()) == {"pass"}
    assert {"rotation", "reflection", "batch independence", "force derivative"} <= set(
        statuses(checks)
    )
    boxed = symmetry_checks(model, [crystal()]) + derivative_checks(model, [crystal()])
    assert set(statuses(boxed).values()) == {"pass"}
    assert {"periodic image", "stress derivative"} <= set(statuses(boxed))


SYSTEMS = {
    "molecule": lambda: molecule("CH3CH2OH"),
    "slab": lambda: fcc111("Cu", (1, 2, 3), vacuum=None, a=3.6),
    "crystal of one atom": lambda: bulk("Cu", a=3.6),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_sound_force_field_passes_every_exact_check(name):
    """Built in single precision and checked in double, as a trained model is."""
    atoms = SYSTEMS[name]()
    state = State.from_ase(atoms, torch.float64)
    model = ForceField(Encoder(4.0, channels=8, lmax=2, layers=2))
    model.adapt(survey([state.frame()], 4.0, MOLECULAR, None))
    double = in_double_precision(model)
    checks = symmetry_checks(double, [state]) + derivative_checks(double, [state])
    checks += smoothness_checks(double, [state])
    assert set(statuses(checks).values()) == {"pass"}
    assert ("stress derivative" in statuses(checks)) == bool(atoms.pbc.all())
    assert ("periodic image" in statuses(checks)) == bool(atoms.pbc.any())


def test_a_double_copy_is_the_same_model_with_exact_constants():
    state = State.from_ase(molecule("CH3CH2OH"), torch.float64)
    model = ForceField(Encoder(4.0, channels=8, lmax=2, layers=2))
    model.adapt(survey([state.frame()], 4.0, MOLECULAR, None))
    double, rounded = in_double_precision(model), model.double()
    forces = [predict(one, state.clone()).forces for one in (double, rounded)]
    assert torch.allclose(*forces, rtol=1e-4, atol=1e-5)
    assert statuses(symmetry_checks(double, [state]))["rotation"] == "pass"
    # Coupling coefficients rounded to single precision are what the copy avoids.
    assert statuses(symmetry_checks(rounded, [state]))["rotation"] == "warn"


@pytest.mark.parametrize(
    ("kind", "system", "expected"),
    [
        (Lopsided, cluster, "rotation"),
        (Chiral, cluster, "reflection"),
        (Anchored, cluster, "translation"),
        (Ordered, cluster, "permutation"),
        (Boxless, crystal, "periodic image"),
        (Sociable, cluster, "batch independence"),
        (Sociable, cluster, "cross-system gradient"),
    ],
)
def test_each_symmetry_check_catches_its_own_breach(kind, system, expected):
    assert expected in failed(symmetry_checks(lennard_jones(kind), [system(), system(1)]))


def test_a_chiral_model_is_told_from_one_that_breaks_rotations():
    found = statuses(symmetry_checks(lennard_jones(Chiral), [cluster()]))
    assert found["rotation"] == "pass"
    assert found["reflection"] == "fail"


def test_forces_that_are_no_gradient_fail():
    assert "force derivative" in failed(derivative_checks(lennard_jones(Uphill), [cluster()]))


def test_wrong_stress_fails_alone():
    assert failed(derivative_checks(lennard_jones(Strained), [crystal()])) == {"stress derivative"}


def test_a_plain_cut_fails_in_every_order():
    found = failed(smoothness_checks(lennard_jones(Abrupt), [cluster()]))
    assert {"energy at the cutoff", "force at the cutoff"} <= found


def test_a_cosine_cut_is_seen_in_the_curvature_only():
    found = statuses(smoothness_checks(lennard_jones(Bent), [cluster()]))
    assert found["energy at the cutoff"] == found["force at the cutoff"] == "pass"
    assert found["curvature at the cutoff"] != "pass"


def test_a_model_without_a_cutoff_has_nothing_to_jump_there():
    assert smoothness_checks(PairPotential(InverseMultiquadricBasis(), 2), [cluster()]) == []


def dynamics(kind=PairPotential, system=cluster, thermal=COLD):
    model = lennard_jones(kind)
    return conservation_checks(model, model, [system(), system(1)], thermal)


def test_newtonian_motion_of_a_sound_model_passes():
    found = statuses(dynamics())
    assert set(found.values()) == {"pass"}
    assert set(found) == {
        "energy drift",
        "energy fluctuation",
        "energy fluctuation law",
        "momentum",
        "angular momentum",
    }
    boxed = statuses(dynamics(system=crystal))
    assert set(boxed.values()) == {"pass"}
    assert "angular momentum" not in boxed


def test_the_drift_is_told_with_its_error_and_what_was_taken_off():
    for kind in (PairPotential, Swirling):
        model = lennard_jones(kind)
        states = [cluster(), cluster(1)]
        found = conservation_checks(model, model, states, COLD)
        [drift] = [check for check in found if check.name == "energy drift"]
        state = thermal_state(model, collated(states), COLD)
        steps = int(np.clip(40_000 // state.num_nodes, 100, 1000))
        motions = newtonian(model, state, COLD, COLD.step, steps, 5)
        # The slope by an independent fit; in the middle of two systems is their mean.
        slopes = []
        for motion in motions:
            kinetic = 0.5 * (motion.masses[:, None] * motion.velocities**2).sum(axis=(1, 2))
            total = (motion.energy + kinetic) / len(motion.numbers)
            times = np.arange(len(total)) * motion.frame_spacing
            slopes.append(abs(stats.linregress(times, total).slope))
        assert drift.value == pytest.approx(np.mean(slopes), rel=1e-6)
        assert drift.value > 0
        assert drift.error > 0
        assert drift.told
        assert "exceeds two standard errors" in drift.explanation
        # Sound and broken alike, the value is what was seen; the verdict allows for chance.
        assert drift.status == ("pass" if kind is PairPotential else "fail")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Uphill, {"energy fluctuation law"}),
        (Windy, {"momentum"}),
        (Swirling, {"angular momentum", "energy drift"}),
    ],
)
def test_each_conservation_check_catches_its_own_breach(kind, expected):
    found = failed(dynamics(kind))
    assert expected <= found
    assert "momentum" not in found - expected


def test_a_collapse_fails_as_soon_as_it_happens():
    found = {check.name: check for check in dynamics(Collapsing)}
    assert {"energy drift", "energy fluctuation", "energy fluctuation law"} <= failed(
        found.values()
    )
    assert "blew up" in found["energy drift"].explanation
    assert found["momentum"].status == "pass"


def test_a_step_too_long_makes_the_energy_fluctuate():
    long = Thermal(temperature=0.05, step=0.11, dimension=3)
    found = {check.name: check for check in dynamics(thermal=long)}
    assert found["energy fluctuation"].status != "pass"


def test_motion_that_leaves_its_plane_fails():
    flat = Thermal(temperature=0.05, step=0.01, dimension=2)

    def layer(seed=0):
        state = cluster(seed)
        state.positions = state.positions * torch.tensor([1.0, 1.0, 0.0])
        state.positions[3:] += torch.tensor([[1.7, 0.7, 0.0], [-1.7, 0.9, 0.0]])
        return state

    assert "plane" in failed(dynamics(Rising, layer, flat))


def test_a_step_resolves_the_fastest_vibration():
    """Two unit masses on a Lennard-Jones bond: ω² = 2 · 57.1 at the minimum."""
    frame = Frame(np.zeros(2, np.int64), np.array([[0, 0, 0], [2 ** (1 / 6), 0, 0.0]]))
    state = State.from_frame(frame.with_(masses=np.ones(2)), torch.float64)
    step = suitable_step(lennard_jones(), [state], temperature=1e-9)
    assert step == pytest.approx(2 * np.pi / np.sqrt(2 * 57.15) / 20, rel=0.1)
    # Fast particles need a step that does not leap over a neighbour.
    assert suitable_step(lennard_jones(), [state], temperature=100.0) < 0.2 * step


def test_under_a_thermostat_a_sound_model_is_evenly_warm_and_stable():
    checks = statistics_checks(lennard_jones(), [cluster(), cluster(1)], COLD)
    found = statuses(checks)
    assert set(found.values()) == {"pass"}
    assert {"stability", "temperature", "equipartition, 0", "equipartition, 1"} == set(found)
    assert checks[0].told
    assert f"{checks[0].value:.3g} (1000 steps)" in checks[0].explanation


def test_heat_in_one_species_fails_equipartition():
    found = failed(statistics_checks(lennard_jones(Feverish), [cluster(), cluster(1)], COLD))
    assert "equipartition, 0" in found


def test_a_model_that_collapses_fails_stability_and_says_when():
    hot = Thermal(temperature=0.5, step=0.01, dimension=3)
    checks = statistics_checks(lennard_jones(Collapsing), [cluster()], hot)
    assert statuses(checks)["stability"] == "fail"
    assert checks[0].value < checks[0].limit
    assert "the first: " in checks[0].explanation


def test_leaving_the_training_data_is_a_warning():
    model = lennard_jones()
    model.domain.closest[:2, :2] = 5.0
    assert statuses(statistics_checks(model, [cluster()], COLD)) == {"stability": "warn"}


def test_cost_counts_time_and_memory_by_size():
    big = State.collate([cluster(seed) for seed in range(30)])
    big.batch = torch.zeros_like(big.batch)
    found = {check.name: check for check in cost_checks(lennard_jones(), [cluster()])}
    assert found["time per step"].unit == "ms"
    assert found["time per step"].value > 0
    wider = lennard_jones()
    wider.basis = BesselBasis(CUTOFF, 160).double()
    wider.neutral = torch.nn.Parameter(torch.zeros(2, 2, 160).double())
    wider.charged = wider.neutral
    more = {check.name: check for check in cost_checks(wider, [cluster()])}
    assert more["memory per atom"].value > 3 * found["memory per atom"].value


def test_a_value_that_is_no_number_fails():
    assert judged("x", float("nan"), "", 1.0, 2.0, "").status == "fail"
    assert judged("x", 0.5, "", 1.0, 2.0, "").status == "pass"
    assert judged("x", 1.5, "", 1.0, 2.0, "").status == "warn"


@pytest.fixture
def fluid(tmp_path):
    """Particles in a plane, in a periodic box, with velocities: frames to check on."""
    path = tmp_path / "fluid.h5md"
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(4), indexing="ij"), -1).reshape(-1, 2)
    with H5MDWriter(path, units=REDUCED) as writer:
        for step in range(3):
            places, velocities = np.zeros((16, 3)), np.zeros((16, 3))
            places[:, :2] = 1.15 * grid + rng.normal(0, 0.03, (16, 2))
            velocities[:, :2] = rng.normal(0, 0.4, (16, 2))
            frame = Frame(
                numbers=np.arange(16) % 2,
                positions=places,
                velocities=velocities,
                masses=np.where(np.arange(16) % 2, 3.0, 1.0),
                cell=np.diag([4.6, 4.6, 0.0]),
                pbc=np.array([True, True, False]),
                dimension=2,
                step=step,
                time=0.1 * step,
            )
            writer.append(frame)
    return path


@pytest.fixture
def run(tmp_path, fluid):
    folder = tmp_path / "run"
    folder.mkdir()
    model = lennard_jones().float()
    data = Collection([fluid])
    archives.save(Archive(model, data=data.fingerprint()), folder / "model.pt")
    (folder / "config.yaml").write_text(f"data: {{init_args: {{train: [{fluid}]}}}}\n")
    return folder


def test_the_command_licenses_a_flat_fluid_in_reduced_units(run, capsys):
    before = archives.load(run / "model.pt")
    assert main(["check", str(run)]) == 0
    table = capsys.readouterr().out
    for name in ("rotation", "plane", "energy drift", "equipartition, 1", "verdict:"):
        assert name in table
    [drift] = [line for line in table.splitlines() if "±" in line]
    assert re.fullmatch(r"\w+ +energy drift +[\d.e+-]+ ± [\d.e+-]+ +[\d.e+-]+ +-", drift)
    assert re.search(r"pass: stability: 8 Langevin simulations .* steps\)", table)
    written = json.loads((run / "check.json").read_text())
    assert written["verdict"] in ("pass", "warn")
    after = archives.load(run / "model.pt")
    assert after.check == written
    assert after.data == before.data
    for key, value in before.model.state_dict().items():
        assert torch.equal(value, after.model.state_dict()[key])
    assert main(["info", str(run)]) == 0
    assert f"check       {written['verdict']}" in capsys.readouterr().out


def test_the_command_fails_a_model_that_blows_up(run, fluid, capsys):
    """The sign of the interaction turned: cores attract."""
    content = archives.load(run / "model.pt")
    with torch.no_grad():
        content.model.neutral.mul_(-1.0)
    archives.save(content, run / "model.pt")
    command = ["check", str(run), "--data", str(fluid), "--temperature", "0.5", "--json", "true"]
    assert main(command) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["verdict"] == "fail"
    assert printed["temperature"] == 0.5
    assert "fail" in {check["status"] for check in printed["checks"]}


def test_the_temperature_of_the_data_is_taken_in_reduced_units(fluid, monkeypatch):
    seen = []

    def stop(double, systems, temperature):
        seen.append(temperature)
        raise KeyboardInterrupt

    monkeypatch.setattr("sciwm.evaluation.model_check.suitable_step", stop)
    with pytest.raises(KeyboardInterrupt):
        check_model(lennard_jones(), Collection([fluid]))
    # 16 particles with unit and triple masses and velocities of spread 0.4.
    assert seen[0] == pytest.approx(0.4**2 * 2.0, rel=0.3)


def test_displacements_stand_in_for_velocities(tmp_path, monkeypatch):
    path = tmp_path / "drifting.h5md"
    start = cluster().frame().with_(velocities=None)
    way = np.random.default_rng(0).normal(size=(5, 3))
    with H5MDWriter(path, units=REDUCED) as writer:
        for step in range(4):
            places = start.positions + 0.01 * step * way
            writer.append(start.with_(positions=places, step=step, time=0.01 * step))
    seen = []

    def stop(double, systems, temperature):
        seen.append(temperature)
        raise KeyboardInterrupt

    monkeypatch.setattr("sciwm.evaluation.model_check.suitable_step", stop)
    with pytest.raises(KeyboardInterrupt):
        check_model(lennard_jones(), Collection([path]))
    assert seen[0] == pytest.approx((start.masses[:, None] * way**2).sum() / 15)


def test_data_without_velocities_in_reduced_units_asks_for_a_temperature(tmp_path):
    path = tmp_path / "still.h5md"
    with H5MDWriter(path, units=REDUCED) as writer:
        writer.append(cluster().frame().with_(velocities=None))
    with pytest.raises(ValueError, match="neither velocities nor times"):
        check_model(lennard_jones(), Collection([path]))


def test_a_run_whose_data_is_gone_asks_for_it(run, fluid, capsys):
    fluid.unlink()
    assert main(["check", str(run)]) == 2
    assert "--data FILE" in capsys.readouterr().err


def test_checking_leaves_the_model_trainable():
    model = lennard_jones()
    assert model.neutral.requires_grad
    LearnedSimulator(in_double_precision(model))
    assert model.neutral.requires_grad
