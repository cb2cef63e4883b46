"""A genetic algorithm on molecular graphs: the best molecules are crossed and changed."""

from collections.abc import Sequence
from random import Random

import numpy as np
from mol_ga.graph_ga.crossover import crossover
from mol_ga.graph_ga.mutate import mutate
from rdkit import Chem, rdBase

from sciwm.core.molecules import parsed
from sciwm.discovery.planners.proposers.edits import TRIES, EditSpace
from sciwm.discovery.planners.proposers.novelty import Novelty
from sciwm.discovery.planners.proposers.population import Population
from sciwm.discovery.planners.proposers.proposer import Scored
from sciwm.discovery.problem.hypothesis import Candidate

rdBase.EnableLog("rdApp.error")  # which mol_ga turns off for the whole process on import


class Genetic:
    """Crossover and mutation of the best molecules (Jensen 2019), with operators of mol_ga.

    Half of the mutations are mol_ga's and half are edits of an `EditSpace`, because mol_ga's own
    refuse every molecule with a ring of more than six atoms.

    Args:
        start: SMILES of the first ancestors; may be empty where scores of others will come.
        population: Most ancestors kept.
        crossovers: Share of children with two parents.
        mutations: Share of those that are changed as well; children of one parent always are.
        max_heavy: Largest child, in heavy atoms.

    Raises:
        ValueError: If a SMILES at the start names no sound molecule, or a share is no share.
    """

    name = "genetic"

    def __init__(
        self,
        start: Sequence[str] = (),
        population: int = 100,
        crossovers: float = 0.5,
        mutations: float = 0.1,
        max_heavy: int = 40,
    ):
        for share in (crossovers, mutations):
            if not 0 <= share <= 1:
                raise ValueError(f"{crossovers=} and {mutations=} are shares between 0 and 1")
        self.crossovers = crossovers
        self.mutations = mutations
        self._population = Population(start, population)
        self._space = EditSpace()
        self._novelty = Novelty(max_heavy)
        self._novelty.remember(self._population.ranked())

    def ask(self, n: int, rng: np.random.Generator) -> list[Candidate]:
        """At most n children; none while there are no ancestors."""
        source = Random(int(rng.integers(2**62)))
        found: list[Candidate] = []
        for _ in range(TRIES * n):
            mother, father = self._population.pick(rng), self._population.pick(rng)
            if len(found) == n or mother is None or father is None:
                break
            child: str | None
            if rng.random() < self.crossovers:
                parents: tuple[str, ...] = tuple(dict.fromkeys((mother, father)))
                child = _crossed(mother, father, source)
                if child is not None and rng.random() < self.mutations:
                    child = self._mutated(child, rng, source)
            else:
                parents = (mother,)
                child = self._mutated(mother, rng, source)
            smiles = self._novelty.admit(child)
            if smiles:
                found.append(Candidate(smiles, self.name, parents))
        return found

    def tell(self, scored: Sequence[Scored]) -> None:
        """The best of them become ancestors, whoever proposed them."""
        self._population.tell(scored)
        self._novelty.remember(one.candidate.smiles for one in scored)

    def _mutated(self, smiles: str, rng: np.random.Generator, source: Random) -> str | None:
        try:
            if rng.random() < 0.5:
                return self._space.random(smiles, rng)
            with rdBase.BlockLogs():
                return _written(mutate(parsed(smiles), source))
        except (ValueError, RuntimeError):
            return None


def _crossed(mother: str, father: str, source: Random) -> str | None:
    try:
        with rdBase.BlockLogs():
            return _written(crossover(parsed(mother), parsed(father), source))
    except (ValueError, RuntimeError):
        return None


def _written(molecule: Chem.Mol | None) -> str | None:
    if molecule is None:
        return None
    Chem.SanitizeMol(molecule)
    return Chem.MolToSmiles(molecule)
