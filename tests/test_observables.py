"""Observables give what theory and independent programs give, with honest error bars."""

from dataclasses import replace

import ase.geometry.rdf
import ase.units
import numpy as np
import pytest
import scipy.signal
from ase import Atoms
from ase.data import covalent_radii
from ase.md.analysis import DiffusionCoefficient

from sciwm.core.frame import Frame
from sciwm.core.units import MOLECULAR, REDUCED
from sciwm.data.h5md import H5MDFile, H5MDWriter
from sciwm.simulation.observables.bonding import BondChange, bond_changes
from sciwm.simulation.observables.diffusion import (
    diffusion_coefficient,
    mean_squared_displacement,
)
from sciwm.simulation.observables.gyration import radius_of_gyration
from sciwm.simulation.observables.motion import Motion, continuous
from sciwm.simulation.observables.observable import Observable
from sciwm.simulation.observables.pair_distribution import pair_distribution
from sciwm.simulation.observables.statistics import (
    mean_with_error,
    slope_with_error,
    standard_error,
)
from sciwm.simulation.observables.thermodynamics import (
    energy_drift,
    energy_fluctuation,
    equipartition,
    kinetic_energy,
    temperature,
)
from sciwm.simulation.observables.vibration import vibrational_density_of_states


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def reduced(positions, **given):
    n = positions.shape[1]
    given = {"timestep": 1.0, "masses": np.ones(n), "numbers": np.ones(n, dtype=np.int64)} | given
    return Motion(positions=positions, units=REDUCED, **given)


def autoregressive(rng, length, decay, series):
    """Stationary series of unit variance, correlation decay**lag."""
    noise = rng.standard_normal((length, series)) * np.sqrt(1 - decay**2)
    noise[0] /= np.sqrt(1 - decay**2)
    return scipy.signal.lfilter([1.0], [1.0, -decay], noise, axis=0)


class TestStatistics:
    def test_the_error_of_white_noise_is_its_spread_over_the_root_of_the_length(self, rng):
        errors = standard_error(rng.standard_normal((1000, 300)))
        assert errors.mean() == pytest.approx(1 / np.sqrt(1000), rel=0.1)

    @pytest.mark.parametrize("decay", [0.0, 0.8, 0.95])
    def test_error_bars_cover_the_truth_as_often_as_they_should(self, rng, decay):
        mean, error = mean_with_error(autoregressive(rng, 4096, decay, 1000))
        # Two standard errors cover 95 %; an error estimated from few blocks covers a little less.
        assert 0.90 < (np.abs(mean) < 2 * error).mean() < 0.98

    def test_the_coverage_check_catches_errors_that_ignore_correlation(self, rng):
        series = autoregressive(rng, 4096, 0.95, 1000)
        naive = series.std(axis=0) / np.sqrt(4096)
        assert (np.abs(series.mean(axis=0)) < 2 * naive).mean() < 0.5

    def test_the_error_of_a_slope_covers_the_truth_under_correlated_noise(self, rng):
        x = np.arange(4096.0)
        fits = [slope_with_error(x, 0.3 * x + y) for y in autoregressive(rng, 4096, 0.9, 300).T]
        slopes, errors = np.array(fits).T
        assert 0.89 < (np.abs(slopes - 0.3) < 2 * errors).mean() < 0.99
        assert np.polyfit(x, 0.3 * x, 1)[0] == pytest.approx(slope_with_error(x, 0.3 * x)[0])

    def test_one_frame_has_no_error_bar(self):
        mean, error = mean_with_error(np.array([2.0]))
        assert mean == 2.0
        assert np.isnan(error)
        with pytest.raises(ValueError, match="at least 2 frames"):
            standard_error(np.array([2.0]))

    def test_an_observable_prints_as_many_digits_as_it_knows(self):
        assert str(Observable("temperature", 300.123, 2.34, "K")) == "temperature 300.1 ± 2.3 K"
        assert str(Observable("energy", 1234.5, 234.0, "eV")) == "energy 1234 ± 234 eV"
        assert "nan" in str(Observable("energy", 1.0, np.nan, "eV"))


class TestMotion:
    @pytest.mark.parametrize("skewed", [False, True])
    def test_crossings_of_the_boundary_are_undone(self, rng, skewed):
        cell = np.array([[5.0, 0, 0], [2.0, 5.5, 0], [1.0, -2.0, 6]]) if skewed else 5.0 * np.eye(3)
        path = np.cumsum(0.3 * rng.standard_normal((200, 4, 3)), axis=0)
        fractional = path @ np.linalg.inv(cell)
        folded = (fractional - np.floor(fractional)) @ cell
        pbc = np.ones(3, dtype=bool)
        found = continuous(folded, cell, pbc)
        np.testing.assert_allclose(found - found[0], path - path[0], atol=1e-10)
        flags = np.floor(fractional).astype(np.int64)
        np.testing.assert_allclose(continuous(folded, cell, pbc, flags), path, atol=1e-10)
        assert np.abs(folded - folded[0] - (path - path[0])).max() > 1  # folding did happen

    def test_a_leap_that_could_have_gone_either_way_is_refused(self):
        positions = np.zeros((2, 1, 3))
        positions[1, 0, 0] = 2.3
        with pytest.raises(ValueError, match="store image flags"):
            continuous(positions, 5.0 * np.eye(3), np.ones(3, dtype=bool))

    def test_frames_and_h5md_make_the_same_motion(self, rng, tmp_path):
        frames = [
            Frame(
                numbers=np.array([8, 1, 1]),
                positions=rng.uniform(0, 0.1, (3, 3)) + np.arange(3)[:, None],
                cell=9.0 * np.eye(3),
                pbc=np.ones(3, dtype=bool),
                velocities=rng.standard_normal((3, 3)),
                energy=float(k),
                time=0.5 * k,
                step=k,
            )
            for k in range(6)
        ]
        with H5MDWriter(tmp_path / "water.h5md") as writer:
            for frame in frames:
                writer.append(frame)
        direct = Motion.from_frames(frames)
        with H5MDFile(tmp_path / "water.h5md") as file:
            read = Motion.from_trajectory(file.trajectories[0], file.units)
            every_second = Motion.from_trajectory(
                file.trajectories[0], file.units, slice(1, None, 2)
            )
        for name in ("positions", "velocities", "energy", "masses"):
            np.testing.assert_allclose(getattr(read, name), getattr(direct, name), rtol=1e-9)
        assert read.timestep == pytest.approx(0.5)
        assert every_second.timestep == pytest.approx(1.0)
        np.testing.assert_allclose(every_second.positions, direct.positions[1::2], rtol=1e-9)

    def test_uneven_times_and_other_particles_are_refused(self):
        def frame(time, number=1):
            return Frame(np.array([number]), np.zeros((1, 3)), time=time)

        with pytest.raises(ValueError, match="unevenly spaced"):
            Motion.from_frames([frame(0.0), frame(1.0), frame(3.0)])
        with pytest.raises(ValueError, match="other particles"):
            Motion.from_frames([frame(0.0), frame(1.0, number=2)])
        with pytest.raises(ValueError, match="no particle of type 9"):
            Motion.from_frames([frame(0.0)]).of_species(9)
        with pytest.raises(ValueError, match="time between frames is unknown"):
            mean_squared_displacement(Motion.from_frames([frame(None)] * 3))


def thermal(rng, numbers, masses, kelvin, conserved, frames=4000):
    """Velocities drawn from Maxwell and Boltzmann, with the conserved momenta projected out."""
    spread = np.sqrt(MOLECULAR.boltzmann * kelvin * MOLECULAR.acceleration / masses)
    velocities = spread[:, None] * rng.standard_normal((frames, len(masses), 3))
    places = 2 * rng.standard_normal((len(masses), 3))
    places -= masses @ places / masses.sum()
    if conserved != "nothing":
        velocities -= np.einsum("n,tna->ta", masses, velocities)[:, None] / masses.sum()
    if conserved == "momentum and angular momentum":
        inertia = (masses * (places**2).sum(1)).sum() * np.eye(3) - (
            masses[:, None] * places
        ).T @ places
        momentum = np.einsum("n,tna->ta", masses, np.cross(places, velocities))
        turning = momentum @ np.linalg.inv(inertia)
        velocities -= np.cross(turning[:, None], places)
    positions = np.broadcast_to(places, velocities.shape)
    return Motion(numbers, masses, positions, 1.0, velocities=velocities)


MASSES = np.array([16.0, 1.0, 1.0, 12.0])
NUMBERS = np.array([8, 1, 1, 6])


class TestThermodynamics:
    @pytest.mark.parametrize("conserved", ["nothing", "momentum", "momentum and angular momentum"])
    @pytest.mark.parametrize("species", [None, 1, 6, 8])
    def test_every_species_has_the_temperature_it_was_given(self, rng, conserved, species):
        motion = thermal(rng, NUMBERS, MASSES, 300.0, conserved)
        found = temperature(motion, conserved, species)
        assert found.error < 0.05 * 300
        assert abs(found.value - 300.0) < 4 * found.error

    def test_the_temperature_check_catches_forgotten_constraints(self, rng):
        motion = thermal(rng, NUMBERS, MASSES, 300.0, "momentum")
        found = temperature(motion, "nothing", 8)
        assert found.value < 300 - 10 * found.error

    def test_equipartition_holds_and_shows_when_it_does_not(self, rng):
        motion = thermal(rng, NUMBERS, MASSES, 300.0, "momentum")
        ratios = equipartition(motion, "momentum")
        assert all(abs(r.value - 1) < 4 * r.error for r in ratios.values())
        motion.velocities[:, 0] *= np.sqrt(1.1)  # oxygen 10 % too hot
        hot = equipartition(motion, "momentum")[8]
        assert hot.value - 1 > 5 * hot.error

    def test_the_error_of_the_ratio_is_its_scatter_over_repeats(self, rng):
        repeats = [thermal(rng, NUMBERS, MASSES, 300.0, "momentum", 200) for _ in range(100)]
        ratios = [equipartition(motion, "momentum")[1] for motion in repeats]
        scatter = np.std([ratio.value for ratio in ratios])
        assert np.mean([ratio.error for ratio in ratios]) == pytest.approx(scatter, rel=0.25)

    def test_the_kinetic_energy_is_that_of_ase(self, rng):
        motion = thermal(rng, NUMBERS, MASSES, 300.0, "nothing", frames=2)
        atoms = Atoms(NUMBERS, motion.positions[0], masses=MASSES)
        energies = []
        for velocities in motion.velocities:
            atoms.set_velocities(velocities / ase.units.fs)
            energies.append(atoms.get_kinetic_energy())
        # ASE's units rest on CODATA 2014, ours on 2018.
        assert kinetic_energy(motion).value == pytest.approx(np.mean(energies), rel=1e-6)

    def test_two_dimensional_discs_count_two_degrees_of_freedom(self, rng):
        velocities = rng.standard_normal((4000, 20, 3)) * [1, 1, 0]
        motion = reduced(np.zeros((4000, 20, 3)), velocities=velocities, dimension=2)
        found = temperature(motion, "nothing")
        assert abs(found.value - 1.0) < 4 * found.error

    def test_a_diatomic_has_one_vibration_left(self):
        places = np.array([[0.0, 0, -0.5], [0, 0, 0.5]])[None]
        along = np.array([[0.0, 0, -1.0], [0, 0, 1.0]])[None]
        motion = reduced(places, velocities=along)
        found = temperature(motion, "momentum and angular momentum")
        assert found.value == pytest.approx(2.0)  # kT/2 = m v²/2 for each of two particles
        with pytest.raises(ValueError, match="no velocities"):
            temperature(reduced(places), "nothing")

    def test_a_drift_is_found_with_its_error_and_none_where_there_is_none(self, rng):
        noise = autoregressive(rng, 2000, 0.9, 1)[:, 0] * 0.01
        still = np.zeros((2000, 5, 3))
        given = {"numbers": np.ones(5, dtype=np.int64), "masses": np.ones(5), "timestep": 2.0}
        steady = Motion(positions=still, velocities=still, energy=noise, **given)
        found = energy_drift(steady)
        assert abs(found.value) < 3 * found.error
        rising = noise + 1e-6 * np.arange(2000)  # eV per frame: 0.1 meV/atom/ps
        found = energy_drift(Motion(positions=still, velocities=still, energy=rising, **given))
        assert found.value == pytest.approx(0.1, abs=4 * found.error)
        wobble = energy_fluctuation(steady)
        assert wobble.value == pytest.approx(2.0, abs=4 * wobble.error)
        assert (found.unit, wobble.unit) == ("meV/atom/ps", "meV/atom")

    def test_an_oscillator_exchanges_energy_and_keeps_the_sum(self):
        t = np.arange(0, 100, 0.01)
        positions, velocities = np.zeros((2, len(t), 1, 3))
        positions[:, 0, 0], velocities[:, 0, 0] = np.cos(t), -np.sin(t)
        motion = reduced(
            positions, velocities=velocities, energy=0.5 * np.cos(t) ** 2, timestep=0.01
        )
        assert energy_fluctuation(motion).value < 1e-14
        wrong = reduced(positions, velocities=velocities, energy=0.6 * np.cos(t) ** 2)
        assert energy_fluctuation(wrong).value > 0.01


def gas(rng, side, n=100, frames=60, dimension=3):
    positions = rng.uniform(0, side, (frames, n, 3))
    positions[..., dimension:] = 0.0
    cell = np.diag([side] * dimension + [0.0] * (3 - dimension))
    # Ideal-gas frames follow from no dynamics, so the path is given as it is.
    return reduced(positions, cell=cell, pbc=np.arange(3) < dimension, dimension=dimension)


class TestPairDistribution:
    @pytest.mark.parametrize("dimension", [2, 3])
    @pytest.mark.parametrize("n", [10, 100])
    def test_an_ideal_gas_has_one_everywhere(self, rng, dimension, n):
        g = pair_distribution(gas(rng, 8.0, n, 400, dimension), r_max=4.0, bins=8)
        pull = (g.value - 1) / g.error
        assert (np.abs(pull[1:]) < 4).all()
        assert g.value[2:] == pytest.approx(1.0, abs=0.1)

    def test_the_ideal_gas_check_catches_particles_that_leave_room(self, rng):
        motion = gas(rng, 8.0)
        crowded = replace(motion, positions=motion.positions * [1, 1, 0.8])
        assert np.abs(pair_distribution(crowded, r_max=4.0, bins=8).value - 1).max() > 0.1

    def test_a_skewed_cell_of_the_same_gas_has_one_too(self, rng):
        cell = np.array([[8.0, 0, 0], [3.0, 8.0, 0], [1.0, -3.0, 9.0]])
        positions = rng.uniform(0, 1, (200, 60, 3)) @ cell
        motion = reduced(positions, cell=cell, pbc=np.ones(3, dtype=bool))
        g = pair_distribution(motion, r_max=3.5, bins=7)
        assert (np.abs(g.value - 1) < 4.5 * g.error).all()

    @pytest.mark.parametrize("species", [None, (1, 1), (1, 2)])
    def test_it_agrees_with_ase(self, rng, species):
        n = 80
        numbers = np.arange(n) % 2 + 1
        positions = rng.uniform(0, 7, (1, n, 3))
        atoms = Atoms(numbers, positions[0], cell=7 * np.eye(3), pbc=True)
        theirs, _ = ase.geometry.rdf.get_rdf(atoms, 3.0, 10, elements=species)
        motion = reduced(positions, numbers=numbers, cell=7 * np.eye(3), pbc=np.ones(3, dtype=bool))
        ours = pair_distribution(motion, 3.0, 10, species).value
        # ASE counts an atom as its own partner when it divides by N², we divide by pairs.
        n_same = {None: 80, (1, 1): 40}.get(species)
        factor = n_same / (n_same - 1) if n_same else 1.0
        np.testing.assert_allclose(ours, theirs * factor, rtol=1e-9)

    def test_a_radius_beyond_half_the_box_is_refused(self, rng):
        with pytest.raises(ValueError, match=r"half the smallest cell height \(4\)"):
            pair_distribution(gas(rng, 8.0), r_max=4.1)
        with pytest.raises(ValueError, match="makes no pair"):
            pair_distribution(reduced(np.zeros((1, 1, 3))), r_max=1.0)

    def test_two_bodies_have_one_distance_and_unit_area(self):
        positions = np.array([[[0.0, 0, 0], [0, 0, 1.1]]])
        density = pair_distribution(reduced(positions), r_max=2.0, bins=20)
        assert density.value[density.value > 0] == pytest.approx([10.0])
        assert density.x[density.value.argmax()] == pytest.approx(1.15, abs=0.06)
        assert density.name == "pair distance density"


class TestDiffusion:
    def test_the_displacement_is_that_of_a_double_loop(self, rng):
        positions = np.cumsum(rng.standard_normal((60, 3, 3)), axis=0) + 1e3
        found = mean_squared_displacement(reduced(positions)).value
        for lag in range(31):
            direct = ((positions[lag:] - positions[: 60 - lag]) ** 2).sum(-1).mean()
            assert found[lag] == pytest.approx(direct, abs=1e-9)

    @pytest.mark.parametrize("dimension", [2, 3])
    def test_brownian_particles_have_the_coefficient_they_were_given(self, rng, dimension):
        steps = np.sqrt(2 * 0.05 * 0.5) * rng.standard_normal((2000, 40, 3))
        steps[..., dimension:] = 7.0  # the unused component must not count
        motion = reduced(np.cumsum(steps, axis=0), timestep=0.5, dimension=dimension)
        found = diffusion_coefficient(motion, lags=(0.5, 10.0))
        assert found.error < 0.1 * 0.05
        assert abs(found.value - 0.05) < 4 * found.error

    def test_its_error_bar_is_about_right(self, rng):
        results = []
        for _ in range(100):
            path = np.cumsum(np.sqrt(2.0) * rng.standard_normal((400, 10, 3)), axis=0)
            d = diffusion_coefficient(reduced(path), lags=(1, 10))
            results.append((d.value, d.error))
        values, errors = np.array(results).T
        assert errors.mean() == pytest.approx(values.std(), rel=0.3)

    def test_drift_ruins_the_check_and_can_be_taken_out(self, rng):
        path = np.cumsum(np.sqrt(2.0) * rng.standard_normal((800, 50, 3)), axis=0)
        drifting = reduced(path + np.arange(800)[:, None, None])
        ruined = diffusion_coefficient(drifting, lags=(1, 10))
        assert abs(ruined.value - 1) > 10 * ruined.error
        steadied = diffusion_coefficient(drifting.without_drift(), lags=(1, 10))
        # One of fifty degrees of freedom has gone with the centre of mass.
        assert abs(steadied.value - 49 / 50) < 4 * steadied.error

    def test_molecular_units_are_angstrom_squared_per_ps(self, rng):
        path = np.cumsum(np.sqrt(2e-4) * rng.standard_normal((400, 50, 3)), axis=0)
        given = {"numbers": np.full(50, 18), "masses": np.full(50, 39.9)}
        found = diffusion_coefficient(Motion(positions=path, timestep=1.0, **given), lags=(1, 20))
        assert found.unit == "Å²/ps"
        assert abs(found.value - 0.1) < 4 * found.error

    def test_it_agrees_with_ase(self, rng):
        path = np.cumsum(np.sqrt(2e-4) * rng.standard_normal((400, 200, 3)), axis=0)
        given = {"numbers": np.full(200, 18), "masses": np.full(200, 39.9)}
        ours = diffusion_coefficient(Motion(positions=path, timestep=1.0, **given), lags=(1, 20))
        analysis = DiffusionCoefficient([Atoms("Ar200", p) for p in path], ase.units.fs)
        analysis.calculate()
        theirs = analysis.get_diffusion_coefficients()[0][0] * ase.units.fs * 1e3
        # ASE uses one time origin, which is far less certain than all of them.
        assert ours.value == pytest.approx(theirs, rel=0.15)

    def test_a_window_longer_than_the_data_is_refused(self, rng):
        motion = reduced(rng.standard_normal((80, 3, 3)))
        with pytest.raises(ValueError, match="end the fit at 5"):
            diffusion_coefficient(motion, lags=(1, 6))
        with pytest.raises(ValueError, match="fewer than two"):
            diffusion_coefficient(motion, lags=(1.2, 2.9))

    def test_a_lone_tracer_has_no_error_bar(self, rng):
        found = mean_squared_displacement(reduced(rng.standard_normal((20, 1, 3))))
        assert np.isnan(found.error).all()


def oscillators(spring, masses, timestep=0.5, frames=4000, velocities=True):
    """Independent one-dimensional oscillators of `spring` eV/Å², in molecular units."""
    omega = np.sqrt(spring * MOLECULAR.acceleration / masses)
    t = np.arange(frames)[:, None] * timestep
    x, v = np.zeros((2, frames, len(masses), 3))
    x[..., 0], v[..., 0] = np.cos(omega * t) / omega, -np.sin(omega * t)
    numbers = np.arange(1, len(masses) + 1)
    motion = Motion(numbers, masses, x, timestep, velocities=v if velocities else None)
    return motion, omega / (2 * np.pi) / 2.99792458e-5


class TestVibration:
    @pytest.mark.parametrize("velocities", [True, False])
    def test_a_harmonic_bond_vibrates_at_its_wavenumber(self, velocities):
        motion, wavenumbers = oscillators(30.0, np.array([1.0, 12.0]), velocities=velocities)
        for species, expected in zip((1, 2), wavenumbers, strict=True):
            spectrum = vibrational_density_of_states(motion, species=species)
            resolution = spectrum.x[1]
            assert abs(spectrum.x[spectrum.value.argmax()] - expected) < resolution
        assert wavenumbers[0] == pytest.approx(2856, rel=0.01)  # about a CH stretch

    def test_the_wavenumber_check_catches_a_wrong_time_step(self):
        motion, wavenumbers = oscillators(30.0, np.array([1.0]))
        slow = Motion(motion.numbers, motion.masses, motion.positions, 0.6, motion.velocities)
        spectrum = vibrational_density_of_states(slow)
        assert abs(spectrum.x[spectrum.value.argmax()] - wavenumbers[0]) > 5 * spectrum.x[1]

    def test_light_and_heavy_share_the_area_as_they_share_the_energy(self):
        motion, wavenumbers = oscillators(30.0, np.array([1.0, 12.0]))
        motion.velocities[:, 0] *= np.sqrt(12.0)  # equal kinetic energies
        spectrum = vibrational_density_of_states(motion)
        middle = wavenumbers.mean()
        below = spectrum.value[spectrum.x < middle].sum() / spectrum.value.sum()
        assert below == pytest.approx(0.5, abs=0.01)
        assert spectrum.value.sum() * spectrum.x[1] == pytest.approx(1.0)

    @pytest.mark.parametrize("frames", [600, 601])
    def test_it_agrees_with_scipy(self, rng, frames):
        velocities = rng.standard_normal((frames, 3, 3))
        masses = np.array([1.0, 2.0, 5.0])
        motion = reduced(velocities, velocities=velocities, masses=masses, timestep=0.1)
        ours = vibrational_density_of_states(motion)
        f, theirs = scipy.signal.periodogram(
            velocities, fs=10.0, window="hann", detrend=False, axis=0
        )
        theirs = (theirs * masses[:, None]).sum(axis=(1, 2))
        np.testing.assert_allclose(ours.x, f)
        np.testing.assert_allclose(ours.value, theirs / (theirs.sum() * f[1]), rtol=1e-9)

    def test_it_is_the_transform_of_the_velocity_autocorrelation(self):
        decay, frames = 0.9, 2**15
        velocities = autoregressive(np.random.default_rng(0), frames, decay, 30).reshape(-1, 10, 3)
        spectrum = vibrational_density_of_states(
            reduced(np.zeros_like(velocities), velocities=velocities), segments=64
        )
        # Transform of the analytic correlation decay**|lag|, one-sided and of unit area.
        turn = np.exp(-2j * np.pi * spectrum.x)
        expected = 2 * (1 - decay**2) / np.abs(1 - decay * turn) ** 2
        pull = (spectrum.value - expected)[2:-2] / spectrum.error[2:-2]
        assert 0.6 < np.abs(pull).mean() < 1.3  # 0.8 for perfect errors and no leakage

    def test_too_many_segments_are_refused(self):
        motion, _ = oscillators(30.0, np.array([1.0]), frames=40)
        with pytest.raises(ValueError, match="use fewer segments"):
            vibrational_density_of_states(motion, segments=6)


def hydrogen(separations):
    positions = np.zeros((len(separations), 2, 3))
    positions[:, 1, 0] = separations
    return Motion(np.array([1, 1]), np.ones(2), positions, 1.0)


LIMIT = 1.7 * 2 * covalent_radii[1]


class TestBonding:
    def test_a_lasting_break_is_reported_from_its_first_frame(self):
        motion = hydrogen([0.74] * 3 + [LIMIT + 0.01] * 5)
        assert bond_changes(motion) == [BondChange("broken", (0, 1), 3)]

    def test_a_stretch_that_comes_back_is_none(self):
        assert bond_changes(hydrogen([0.74] * 3 + [LIMIT + 0.01] * 4 + [0.74] * 5)) == []
        assert bond_changes(hydrogen([0.74] * 3 + [LIMIT - 0.01] * 20)) == []

    def test_a_bond_that_breaks_forms_again(self):
        motion = hydrogen([0.74] + [3.0] * 6 + [0.74] * 6 + [3.0] * 6)
        kinds = [(change.kind, change.frame) for change in bond_changes(motion)]
        assert kinds == [("broken", 1), ("formed", 7), ("broken", 13)]

    def test_a_collision_forms_nothing(self):
        assert bond_changes(hydrogen([3.0] * 5 + [0.74] * 4 + [3.0] * 5)) == []

    def test_the_bonds_may_come_from_elsewhere(self):
        assert bond_changes(hydrogen([3.0] * 6), reference=[(1, 0)]) == [
            BondChange("broken", (0, 1), 0)
        ]

    def test_a_bond_across_the_boundary_is_whole(self):
        positions = np.broadcast_to(np.array([[0.1, 0, 0], [4.5, 0, 0]]), (6, 2, 3))
        given = {"numbers": np.array([1, 1]), "masses": np.ones(2), "timestep": 1.0}
        boxed = {"cell": 5 * np.eye(3), "pbc": np.ones(3, dtype=bool)}
        assert bond_changes(Motion(positions=positions, **given, **boxed)) == []
        assert bond_changes(Motion(positions=positions, **given), reference=[(0, 1)]) != []

    def test_particles_that_are_no_atoms_are_refused(self):
        motion = Motion(np.array([0, 0]), np.ones(2), np.zeros((6, 2, 3)), 1.0)
        with pytest.raises(ValueError, match="not an element"):
            bond_changes(motion)


class TestGyration:
    def test_two_bodies_have_their_analytic_radius(self):
        positions = np.array([[[0.0, 0, 0], [0, 0, 3.0]]] * 2)
        motion = reduced(positions, masses=np.array([1.0, 2.0]))
        assert radius_of_gyration(motion).value == pytest.approx(3.0 * np.sqrt(2) / 3)
        assert radius_of_gyration(motion, atoms=np.array([1])).value == 0.0
        equal = reduced(positions)  # without the masses the answer is another
        assert radius_of_gyration(equal).value != pytest.approx(np.sqrt(2))

    def test_a_molecule_cut_by_the_boundary_is_refused(self):
        positions = np.array([[[0.1, 0, 0], [0.3, 0, 0], [9.9, 0, 0]]])
        boxed = {"cell": 10 * np.eye(3), "pbc": np.ones(3, dtype=bool)}
        with pytest.raises(ValueError, match="make it whole"):
            radius_of_gyration(reduced(positions, **boxed))
        assert radius_of_gyration(reduced(positions[:, :2], **boxed)).value == pytest.approx(0.1)
