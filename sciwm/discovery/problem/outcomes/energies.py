"""Outcomes that are differences of energy between minima."""

from collections.abc import Sequence

from sciwm.core.bounds import require_counts
from sciwm.core.frame import Frame
from sciwm.core.molecules import frame_from_smiles
from sciwm.discovery.problem.hypothesis import Failure
from sciwm.discovery.problem.outcomes.outcome import Outcome, Value
from sciwm.discovery.problem.outcomes.relaxation import Minimum, minima
from sciwm.simulation.simulator import PropertySimulator


class RelaxedEnergy(Outcome):
    """The energy of the nearest minimum."""

    @property
    def name(self) -> str:
        return "relaxed_energy"

    @property
    def unit(self) -> str:
        return "eV"

    def evaluate_many(
        self, world: PropertySimulator, structures: Sequence[Frame], seed: int = 0
    ) -> list[Value | Failure]:
        return [
            one if isinstance(one, Failure) else Value(one.energy, 0.0, [one.frame], one.flag)
            for one in minima(world, structures)
        ]


class ConformerStrain(Outcome):
    """How much higher the minimum nearest to the given structure lies than the lowest conformer found.

    Args:
        conformers: Embedded by ETKDG from as many seeds, and relaxed.
    """

    def __init__(self, conformers: int = 5):
        require_counts(conformers=conformers)
        self.conformers = conformers

    @property
    def name(self) -> str:
        return "conformer_strain"

    @property
    def unit(self) -> str:
        return "eV"

    def evaluate_many(
        self, world: PropertySimulator, structures: Sequence[Frame], seed: int = 0
    ) -> list[Value | Failure]:
        found: list[Value | Failure] = []
        for structure in structures:
            if structure.smiles is None:
                found.append(
                    Failure("embedding", "conformers of a structure without SMILES are unknown")
                )
                continue
            others = []
            for k in range(self.conformers):
                try:
                    others.append(frame_from_smiles(structure.smiles, seed + 1 + k))
                except ValueError:
                    continue  # the given structure stands in for conformers that cannot be built
            here, *rest = minima(world, [structure, *others])
            if isinstance(here, Failure):
                found.append(here)
                continue
            lower = [one for one in (here, *rest) if isinstance(one, Minimum)]
            lowest = min(lower, key=lambda one: one.energy)
            flag = here.flag or lowest.flag
            frames = [one.frame for one in lower]
            found.append(Value(here.energy - lowest.energy, 0.0, frames, flag))
        return found


class AdiabaticElectronAffinity(Outcome):
    """Energy gained by one electron more, each charge at its own minimum."""

    @property
    def name(self) -> str:
        return "adiabatic_electron_affinity"

    @property
    def unit(self) -> str:
        return "eV"

    def evaluate_many(
        self, world: PropertySimulator, structures: Sequence[Frame], seed: int = 0
    ) -> list[Value | Failure]:
        return _charging(world, structures, -1)


class AdiabaticIonisationEnergy(Outcome):
    """Energy spent to remove one electron, each charge at its own minimum."""

    @property
    def name(self) -> str:
        return "adiabatic_ionisation_energy"

    @property
    def unit(self) -> str:
        return "eV"

    def evaluate_many(
        self, world: PropertySimulator, structures: Sequence[Frame], seed: int = 0
    ) -> list[Value | Failure]:
        return _charging(world, structures, 1)


def _charging(
    world: PropertySimulator, structures: Sequence[Frame], charge: int
) -> list[Value | Failure]:
    """±[E(charged) - E(as given)], positive for what costs or, with an electron more, yields energy."""
    found: list[Value | Failure] = []
    before = minima(world, structures)
    neutral = [one for one in before if isinstance(one, Minimum)]
    after = iter(minima(world, [one.frame for one in neutral], charge) if neutral else [])
    for one in before:
        if isinstance(one, Failure):
            found.append(one)
            continue
        other = next(after)
        if isinstance(other, Failure):
            found.append(Failure(other.stage, f"with charge {charge:+d}: {other.reason}"))
            continue
        value = charge * (other.energy - one.energy)
        found.append(Value(value, 0.0, [one.frame, other.frame], one.flag or other.flag))
    return found
