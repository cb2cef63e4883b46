"""Makes the organic set: GFN2-xTB labels of thousands of molecules, what the shipped world learns from.

Two kinds of geometries. Without `--world`, frames of short dynamics in the MMFF94s force field at 200 to
1000 K, some with a bond stretched or compressed, some next to a second molecule; with it, frames of
dynamics in that world, which are of the kind that a simulation meets. A tenth of all molecules is held
back for good (`held_back`). About half an hour on one core for the first kind:
`OMP_NUM_THREADS=1 python datasets/organic_xtb/recipe.py --lists '[aqsoldb.csv]' --out runs/organic`.
"""

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_masses, chemical_symbols, vdw_radii
from ase.formula import Formula
from jsonargparse import auto_cli
from rdkit import Chem
from rdkit.Chem import rdChemReactions, rdForceFieldHelpers
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from sciwm.core.frame import Array, Frame
from sciwm.core.molecules import frame_from_smiles, parsed
from sciwm.core.progress import Bar
from sciwm.core.units import MOLECULAR
from sciwm.data.h5md import H5MDWriter
from sciwm.simulation.references.electronic_structure import Properties
from sciwm.simulation.references.xtb import GFN2
from sciwm.simulation.simulator import SimulatorError

ELEMENTS = frozenset({1, 6, 7, 8, 9, 16, 17})
HEAVY_ATOMS = 20  # at most
PARTNER_ATOMS = 5  # heavy ones, at most, of the second molecule of a pair
TEMPERATURES = (200.0, 1000.0)  # K, of dynamics in MMFF94s
SIMULATED = (300.0, 1000.0)  # K, of dynamics in a world
TOGETHER = 32  # molecules simulated at once
SETTLING = 100  # steps before each frame
TIME_STEP = 1.0  # fs
FRICTION = 0.05  # 1/fs
STRETCHED = (0.9, 1.4)  # lengths of a bond, in lengths it had
CONTACT = (0.65, 1.3)  # closest approach of a pair, in sums of van der Waals radii
STRONGEST = 25.0  # eV/Å: frames with a larger force are clashes and left out
KCAL_MOL = 0.0433641  # eV
HELD_BACK = 26  # of 256
REPLACEMENTS = (  # which add elements and bonds that the lists are poor in
    "[cH:1]>>[n:1]",
    "[cH:1]>>[c:1]F",
    "[cH:1]>>[c:1]N",
    "[cH:1]>>[c:1]C#N",
    "[CH3:1]>>[NH2:1]",
    "[CH3:1]>>[C:1](F)(F)F",
    "[CH2X4:1]>>[NH:1]",
    "[CH2X4:1]>>[S:1](=O)=O",
    "[CH2X4:1]>>[C:1](F)F",
    "[OX2H0:1]>>[S:1]",
    "[OX2H0:1]>>[NH:1]",
    "[OX2H:1]>>[SH:1]",
    "[#6:1]=[OX1:2]>>[*:1]=[S:2]",
    "[o:1]>>[s:1]",
)


def digest(smiles: str) -> bytes:
    return hashlib.sha256(smiles.encode()).digest()


def held_back(smiles: str) -> bool:
    """Whether nothing that ships may learn from a molecule, named by its canonical SMILES."""
    return digest(smiles)[0] < HELD_BACK


def generator(smiles: str, seed: int) -> np.random.Generator:
    """Of a molecule's own, so that it gets the same geometries whatever was made before."""
    return np.random.default_rng([seed, int.from_bytes(digest(smiles)[:8])])


def listed(path: Path) -> list[str]:
    """The column `SMILES` of a table separated by commas or semicolons.

    Raises:
        ValueError: If no line heads such a column.
    """
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    for separator in ",;":
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
        for k, row in enumerate(rows):
            names = [cell.lower() for cell in row]
            if "smiles" in names:
                column = names.index("smiles")
                return [row[column] for row in rows[k + 1 :] if len(row) > column]
    raise ValueError(f"{path} has no column SMILES separated by commas or semicolons")


def canonical(smiles: str) -> str | None:
    """How RDKit writes a molecule that the recipe is for; None for any other."""
    try:
        molecule = parsed(smiles)
    except ValueError:
        return None
    atoms = list(molecule.GetAtoms())
    wanted = (
        len(atoms) <= HEAVY_ATOMS
        and {atom.GetAtomicNum() for atom in atoms} <= ELEMENTS
        and not any(atom.GetNumRadicalElectrons() or atom.GetIsotope() for atom in atoms)
        and Chem.GetFormalCharge(molecule) == 0
    )
    return Chem.MolToSmiles(molecule) if wanted else None


def variant(smiles: str) -> str | None:
    """The molecule with one group replaced at random, which names itself; None where none can be."""
    rng = generator(smiles, 0)
    molecule = parsed(smiles)
    for k in rng.permutation(len(REPLACEMENTS)):
        products = rdChemReactions.ReactionFromSmarts(REPLACEMENTS[k]).RunReactants((molecule,))
        for chosen in rng.permutation(len(products)):
            found = canonical(Chem.MolToSmiles(products[chosen][0]))
            if found is not None and found != smiles:
                return found
    return None


def molecules(lists: Iterable[Path], variants: bool = False) -> list[str]:
    """Canonical SMILES of what the recipe is for, each once, in an order that is as good as random.

    Mirror images and cis-trans isomers of a molecule that is held back are left out, unless they are held
    back themselves.

    Args:
        variants: Beside each that is not held back, a variant of it.
    """
    found = {canonical(smiles) for path in lists for smiles in listed(path)} - {None}
    if variants:
        found |= {variant(smiles) for smiles in found if not held_back(smiles)} - {None}
    flat = {smiles: Chem.MolToSmiles(parsed(smiles), isomericSmiles=False) for smiles in found}
    kept_apart = {flat[smiles] for smiles in found if held_back(smiles)}
    return sorted(
        (one for one in found if held_back(one) or flat[one] not in kept_apart),
        key=lambda smiles: digest(smiles)[1:],
    )


class Heated:
    """Langevin dynamics (BAOAB) of one molecule in MMFF94s, or UFF where that lacks parameters."""

    def __init__(self, smiles: str, rng: np.random.Generator):
        self.start = frame_from_smiles(smiles, int(rng.integers(2**31)))
        self.molecule = Chem.AddHs(parsed(smiles))
        conformer = Chem.Conformer(len(self.start))
        conformer.SetPositions(self.start.positions)
        self.molecule.AddConformer(conformer)
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(self.molecule, "MMFF94s")
        self.field = (
            rdForceFieldHelpers.UFFGetMoleculeForceField(self.molecule)
            if properties is None
            else rdForceFieldHelpers.MMFFGetMoleculeForceField(self.molecule, properties)
        )
        self.rng = rng
        self.positions = self.start.positions
        self.velocities = np.zeros_like(self.positions)

    def frame(self, temperature: float) -> Frame:
        """After `SETTLING` steps at a temperature."""
        masses = atomic_masses[self.start.numbers][:, None]
        spread = np.sqrt(MOLECULAR.boltzmann * temperature * MOLECULAR.acceleration / masses)
        keep = np.exp(-FRICTION * TIME_STEP)
        kick = 0.5 * TIME_STEP * MOLECULAR.acceleration / masses
        forces = self._forces()
        for _ in range(SETTLING):
            self.velocities = self.velocities + kick * forces
            self.positions = self.positions + 0.5 * TIME_STEP * self.velocities
            noise = spread * self.rng.standard_normal(self.positions.shape)
            self.velocities = keep * self.velocities + np.sqrt(1 - keep**2) * noise
            self.positions = self.positions + 0.5 * TIME_STEP * self.velocities
            forces = self._forces()
            self.velocities = self.velocities + kick * forces
        return self.start.with_(
            positions=self.positions, velocities=self.velocities, label="thermal"
        )

    def _forces(self) -> Array:
        self.field.Initialize()  # else distances of the call before are used again
        gradient = self.field.CalcGrad(self.positions.ravel().tolist())
        return -KCAL_MOL * np.reshape(gradient, (-1, 3))


def stretched(frame: Frame, molecule: Chem.Mol, rng: np.random.Generator) -> Frame | None:
    """The frame with one bond that is in no ring longer or shorter; None where there is none."""
    bonds = [bond for bond in molecule.GetBonds() if not bond.IsInRing()]
    if not bonds:
        return None
    bond = bonds[rng.integers(len(bonds))]
    first, second = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
    cut = Chem.FragmentOnBonds(molecule, [bond.GetIdx()], addDummies=False)
    moving = next(list(part) for part in Chem.GetMolFrags(cut) if second in part)
    positions = frame.positions.copy()
    along = positions[second] - positions[first]
    positions[moving] += (rng.uniform(*STRETCHED) - 1) * along
    return frame.with_(positions=positions, label="stretched")


def pair(frame: Frame, partner: Frame, rng: np.random.Generator) -> Frame:
    """The frame with a second molecule beside it, turned and placed at random, at about contact."""
    turned = Rotation.random(rng=rng).apply(partner.positions - partner.positions.mean(axis=0))
    way = rng.standard_normal(3)
    way /= np.linalg.norm(way)
    radii = vdw_radii[frame.numbers][:, None] + vdw_radii[partner.numbers]
    reach = rng.uniform(*CONTACT) * radii
    distance = 0.0
    centred = frame.positions - frame.positions.mean(axis=0)
    while (cdist(centred, turned + distance * way) < reach).any():
        distance += 0.05
    return Frame(
        numbers=np.concatenate([frame.numbers, partner.numbers]),
        positions=np.concatenate([centred, turned + distance * way]),
        label="pair",
    )


def geometries(
    smiles: str, count: int, partners: list[str], rng: np.random.Generator
) -> Iterator[Frame]:
    """Frames of a molecule: the last with a bond stretched or beside a partner, the others thermal.

    Raises:
        ValueError: If no structure is found.
    """
    for conformer in range(2):
        shares = count // 2 + (count % 2 if conformer == 0 else 0)
        heated = Heated(smiles, rng)
        for k, temperature in enumerate(np.sort(rng.uniform(*TEMPERATURES, shares))):
            frame = heated.frame(float(temperature))
            if conformer == 1 and k == 0:
                if rng.random() < 0.5:
                    partner = Heated(partners[rng.integers(len(partners))], rng)
                    frame = pair(frame, partner.frame(float(temperature)), rng)
                else:
                    frame = stretched(frame, heated.molecule, rng) or frame
            yield frame


def labelled(frame: Frame, found: Properties) -> dict[str, Any]:
    """A frame and what GFN2 says of it, in what JSON can hold."""
    return {
        "label": frame.label,
        "numbers": frame.numbers.tolist(),
        "positions": frame.positions.tolist(),
        "energy": found.energy,
        "forces": found.forces.tolist(),
        "dipole": found.dipole.tolist(),
        "charges": found.charges.tolist(),
        "gap": found.gap,
    }


class Ledger:
    """What is labelled already: a line of JSON for each molecule, which a kill leaves whole or absent.

    Args:
        path: The file. A last line that was not finished is cut off.
    """

    def __init__(self, path: Path):
        path.touch()
        with path.open("r+b") as file:
            whole = file.read().rpartition(b"\n")[0]
            file.truncate(len(whole) + 1 if whole else 0)
        self.path = path
        self.known = {smiles for smiles, _ in self}

    def __iter__(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        with self.path.open() as lines:
            for line in lines:
                entry = json.loads(line)
                yield entry["smiles"], entry["frames"]

    def add(self, smiles: str, frames: list[dict[str, Any]]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"smiles": smiles, "frames": frames}) + "\n")
        self.known.add(smiles)


def label(
    ledger: Ledger, frames_of: Iterator[tuple[str, list[Frame]]], reference: GFN2, bar: Bar
) -> int:
    """Asks the reference for each molecule's frames; how many molecules failed."""
    failed = 0
    for smiles, frames in frames_of:
        # One by one, as one system: each starts from the wave function of the last.
        answers = [reference.properties([frame])[0] for frame in frames]
        sound = [
            labelled(frame, answer)
            for frame, answer in zip(frames, answers, strict=True)
            if not isinstance(answer, SimulatorError)
            and np.linalg.norm(answer.forces, axis=1).max() < STRONGEST
        ]
        if sound:
            ledger.add(smiles, sound)
        failed += not sound
        bar.update()
        bar.set_postfix(failed=failed)
    return failed


def from_force_field(
    chosen: list[str], count: int, partners: dict[bool, list[str]], seed: int
) -> Iterator[tuple[str, list[Frame]]]:
    """Frames of each molecule; none where no structure is found."""
    for smiles in chosen:
        rng = generator(smiles, seed)
        try:
            yield smiles, list(geometries(smiles, count, partners[held_back(smiles)], rng))
        except ValueError:
            yield smiles, []


def from_world(
    world: str, chosen: list[str], count: int, seed: int
) -> Iterator[tuple[str, list[Frame]]]:
    """Frames of each molecule that were heated in MMFF94s and settled in the world, each at a temperature.

    Where a system leaves the world's domain, the last frame before is taken: it has most to teach.
    """
    import torch

    from sciwm.core.state import State
    from sciwm.interfaces.world import load
    from sciwm.simulation.propagators import Langevin
    from sciwm.simulation.rollout import Rollout

    simulator = load(world).simulator()
    for first in range(0, len(chosen), TOGETHER):
        part = chosen[first : first + TOGETHER]
        starts: list[tuple[str, float, Frame]] = []
        for smiles in part:
            rng = generator(smiles, seed)
            for temperature in rng.uniform(*SIMULATED, count).tolist():
                with suppress(ValueError):
                    frame = Heated(smiles, rng).frame(temperature)
                    starts.append((smiles, temperature, frame))
        state = State.collate([State.from_frame(frame) for *_, frame in starts])
        temperatures = torch.tensor([temperature for _, temperature, _ in starts])
        motion = Langevin(simulator, TIME_STEP, temperatures, FRICTION, seed)
        found = Rollout(motion, every=SETTLING).run(state, SETTLING)
        for smiles in part:
            own = [k for k, (name, *_) in enumerate(starts) if name == smiles]
            yield smiles, [found.frames[k][-1].with_(label="simulated") for k in own]


def write(ledger: Ledger, out: Path, name: str, parameters: dict[str, Any]) -> None:
    """Writes `train` and `held_back` files of all that is labelled.

    A group holds all frames of one composition, their atoms in ascending order: thousands of groups with a
    few frames each would take longer to open than to read.
    """
    for side in (False, True):
        path = out / f"{'held_back' if side else 'train'}{name}.h5md"
        path.unlink(missing_ok=True)
        with H5MDWriter(
            path,
            creator_note="datasets/organic_xtb/recipe.py",
            parameters=parameters,
            dtype="float32",
        ) as writer:
            for smiles, frames in ledger:
                if held_back(smiles) != side:
                    continue
                for one in frames:
                    order = np.argsort(one["numbers"], kind="stable")
                    frame = Frame(
                        numbers=np.array(one["numbers"])[order],
                        positions=np.array(one["positions"])[order],
                        energy=one["energy"],
                        forces=np.array(one["forces"])[order],
                        label=one["label"],
                        properties={
                            "dipole": np.array(one["dipole"]),
                            "charges": np.array(one["charges"])[order],
                            "gap": one["gap"],
                        },
                    )
                    writer.append(
                        frame,
                        group=Formula.from_list(
                            [chemical_symbols[z] for z in frame.numbers]
                        ).format("hill"),
                    )


def main(
    lists: list[Path],
    out: Path = Path(),
    molecules_at_most: int = 1_000_000,
    geometries_each: int = 6,
    variants: bool = False,
    world: str | None = None,
    seed: int = 0,
) -> None:
    """Writes train.h5md and held_back.h5md; with a world, train_thermal.h5md and held_back_thermal.h5md.

    May be stopped at any moment: the same command goes on with the molecules that are left.

    Args:
        lists: Tables with a column SMILES, separated by commas or semicolons.
        out: Folder to write into.
        molecules_at_most: Of both files together.
        geometries_each: Frames of each molecule.
        variants: Beside each listed molecule that is not held back, one with a group replaced.
        world: A name, run folder or model file of the world to draw frames from.
        seed: Of conformers, dynamics and places.
    """
    out.mkdir(parents=True, exist_ok=True)
    name = "" if world is None else "_thermal"
    every = molecules(lists, variants)
    small = [one for one in every if parsed(one).GetNumAtoms() <= PARTNER_ATOMS]
    partners = {side: [one for one in small if held_back(one) == side] for side in (False, True)}
    ledger = Ledger(out / f"labels{name}.jsonl")
    chosen = [one for one in every[:molecules_at_most] if one not in ledger.known]
    frames_of = (
        from_force_field(chosen, geometries_each, partners, seed)
        if world is None
        else from_world(world, chosen, geometries_each, seed)
    )
    with Bar(total=len(chosen), desc="GFN2", unit="molecule") as bar:
        failed = label(ledger, frames_of, GFN2(), bar)
    if failed:
        print(f"{failed} of {len(chosen)} molecules failed and are left out")
    parameters = {
        "method": "GFN2-xTB, gas phase",
        "lists": [path.name for path in lists],
        "geometries_each": geometries_each,
        "variants": variants,
        "world": world,
        "seed": seed,
        "tblite": version("tblite"),
        "rdkit": version("rdkit"),
    }
    write(ledger, out, name, parameters)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
