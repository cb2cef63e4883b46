import ase.units
import pytest

from sciwm.core.units import MOLECULAR, REDUCED, UnitError, conversion, parse_quantity


@pytest.mark.parametrize(
    ("unit", "quantity", "expected"),
    [
        ("kcal/mol", "energy", ase.units.kcal / ase.units.mol),
        ("kJ mol-1 nm-1", "force", ase.units.kJ / ase.units.mol / ase.units.nm),
        ("kcal/mol/Å", "force", ase.units.kcal / ase.units.mol),
        ("hartree/bohr", "force", ase.units.Hartree / ase.units.Bohr),
        ("Angstrom ps-1", "velocity", 1e-3),
        ("nm+1 ps-1", "velocity", 1e-2),
        ("GPa", "stress", ase.units.GPa),
        ("eV/A^3", "stress", 1.0),
        ("meV", "energy", 1e-3),
        ("kbar", "stress", 0.1 * ase.units.GPa),
    ],
)
def test_units_convert_as_ase_has_them(unit, quantity, expected):
    assert conversion(unit, quantity) == pytest.approx(expected, rel=1e-6)


def test_newtons_law_has_ases_constant():
    assert pytest.approx(ase.units.fs**2, rel=1e-6) == MOLECULAR.acceleration
    assert pytest.approx(ase.units.kB, rel=1e-6) == MOLECULAR.boltzmann


@pytest.mark.parametrize(
    ("unit", "quantity"), [("parsec", "length"), ("eV", "force"), ("", "time")]
)
def test_a_unit_that_is_unknown_or_does_not_fit_is_refused(unit, quantity):
    with pytest.raises(UnitError):
        conversion(unit, quantity)


@pytest.mark.parametrize(
    ("text", "quantity", "value"),
    [
        ("10ps", "time", 1e4),
        ("300 K", "temperature", 300.0),
        ("0.5", "time", 0.5),
        ("1e-1fs", "time", 0.1),
        ("0.01/fs", "rate", 0.01),
        ("5 ps-1", "rate", 0.005),
    ],
)
def test_quantities_are_read_as_people_write_them(text, quantity, value):
    assert parse_quantity(text, quantity, MOLECULAR) == pytest.approx(value)


@pytest.mark.parametrize("text", ["ps", "10 parsec", "10 eV", "1..2 fs"])
def test_nonsense_quantities_are_refused(text):
    with pytest.raises(UnitError):
        parse_quantity(text, "time", MOLECULAR)


def test_reduced_units_have_no_names():
    with pytest.raises(UnitError, match="reduced"):
        parse_quantity("10ps", "time", REDUCED)


@pytest.mark.parametrize("text", ["1e400", "1e308ps", "-1e400 K"])
def test_a_quantity_that_no_number_holds_is_refused(text):
    quantity = "temperature" if "K" in text else "time"
    with pytest.raises(UnitError, match="too large"):
        parse_quantity(text, quantity, MOLECULAR)
