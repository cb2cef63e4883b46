"""The usual recipe of every outcome, by the name that objectives give it."""

from typing import Any

from sciwm.core.properties import PROPERTIES

_HERE = "sciwm.discovery.problem.outcomes"

RECIPES: dict[str, dict[str, Any]] = {
    **{
        name: {
            "class_path": f"{_HERE}.properties.RelaxedProperty",
            "init_args": {"property": name},
        }
        for name, kind in PROPERTIES.items()
        if not kind.per_atom
    },
    "relaxed_energy": {"class_path": f"{_HERE}.energies.RelaxedEnergy"},
    "conformer_strain": {"class_path": f"{_HERE}.energies.ConformerStrain"},
    "adiabatic_electron_affinity": {"class_path": f"{_HERE}.energies.AdiabaticElectronAffinity"},
    "adiabatic_ionisation_energy": {"class_path": f"{_HERE}.energies.AdiabaticIonisationEnergy"},
    "mean_dipole": {
        "class_path": f"{_HERE}.ensembles.ThermalAverage",
        "init_args": {"observable": "dipole"},
    },
    "mean_radius_of_gyration": {
        "class_path": f"{_HERE}.ensembles.ThermalAverage",
        "init_args": {"observable": "radius_of_gyration"},
    },
    "infrared_band": {"class_path": f"{_HERE}.ensembles.InfraredSpectrum"},
    "survival": {"class_path": f"{_HERE}.survival.ThermalSurvival"},
    "survival_time": {"class_path": f"{_HERE}.survival.SurvivalTime"},
}


def recipes_for(text: str) -> list[dict[str, Any]]:
    """The recipes of the outcomes whose names occur in an objective."""
    words = set("".join(c if c.isalnum() or c == "_" else " " for c in text).split())
    return [recipe for name, recipe in RECIPES.items() if name in words]
