"""Sound input to damage: one small file of each format, a model, a library of molecules, jobs."""

import gzip
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import ase.io
import h5py
import MDAnalysis
import numpy as np
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from sciwm.cli import main
from sciwm.core.frame import Frame
from sciwm.core.units import REDUCED
from sciwm.data.h5md import H5MDWriter

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "data"

TAKEN = {
    "md_formats/dcd/fixed-atoms.dcd": ("--elements", "H12"),
    "md_formats/dcd/mrmd_h2so4-64bit-be.dcd": ("--elements", "H2SO4"),
    "md_formats/dcd/water.dcd": ("--elements", "(OHH)99"),
    "md_formats/gro/ubiquitin.gro": (),
    "md_formats/lammps/nacl.lammpstrj": ("--units", "real", "--elements", "Na256Cl256"),
    "md_formats/netcdf/no-cell.nc": ("--elements", "He1989"),
    "md_formats/netcdf/water.nc": ("--elements", "(OHH)99"),
    "md_formats/tinker/water.arc": (),
    "md_formats/trr/cell_shapes_d.trr": ("--elements", "H10"),
    "md_formats/trr/water.trr": ("--elements", "(OHH)99"),
    "md_formats/xtc/cell_shapes.xtc": ("--elements", "H10"),
    "md_formats/xyz/extended.xyz": ("--skip_bad",),
    "md_formats/xyz/trajectory.xyz": (),
    "md_formats/xyz/water.9.xyz.gz": (),
    "mlearn/Li_test.extxyz.gz": (),
}
"""Files of other programs, with the options that they need."""

REFUSED = ("lammps-data", "lammps_bad", "xyz_bad")
"""Folders of files that are broken already."""

WATER = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])


@dataclass(frozen=True)
class Source:
    """Something to import.

    Attributes:
        name: What it is imported by: a file or folder in `folder`.
        folder: With everything that belongs to it.
        words: Options of its import.
        sound: Whether it can be imported as it is.
    """

    name: str
    folder: Path
    words: tuple[str, ...] = ()
    sound: bool = True


def sources(folder: Path) -> list[Source]:
    """What `make` put into a folder, in the same order on every machine."""
    listed = json.loads((folder / "sources.json").read_text())
    return [Source(n, folder / "sources" / f, tuple(w), sound) for n, f, w, sound in listed]


def make(folder: Path) -> None:
    """Writes all samples into the folder, which is the current one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _make_common(folder)
        _Sources(folder).make()


def _frames(count: int, spread: float = 0.05) -> list[Frame]:
    """Water with energies and forces of springs."""
    frames = []
    for seed in range(count):
        places = WATER + spread * np.random.default_rng(seed).standard_normal((3, 3))
        arms = places[None] - places[:, None]
        length = np.linalg.norm(arms, axis=-1) + np.eye(3)
        pull = 5.0 * (length - 1.2) * (1 - np.eye(3))
        energy = float(1.25 * ((length - 1.2) ** 2 * (1 - np.eye(3))).sum())
        forces = ((pull / length)[..., None] * arms).sum(axis=1)
        frame = Frame(numbers=np.array([8, 1, 1]), positions=places)
        frames.append(frame.with_(energy=energy, forces=forces))
    return frames


def _make_common(folder: Path) -> None:
    """What commands other than import need."""
    with H5MDWriter(folder / "labelled.h5md") as writer:
        for frame in _frames(12):
            writer.append(frame)
    with H5MDWriter(folder / "moving.h5md", units=REDUCED) as writer:
        for step in range(12):
            places = np.array([[0.0, 0, 0], [1.0 + 0.01 * step, 0, 0]])
            speed = np.array([[0.0, 0, 0], [0.1, 0, 0]])
            kinds = {"masses": np.ones(2), "charges": np.array([1.0, -1.0])}
            moved = {"velocities": speed, "time": 0.1 * step, "step": step}
            writer.append(Frame(numbers=np.zeros(2, int), positions=places, **kinds, **moved))
    (folder / "library.smi").write_text("CCO ethanol\nCC(=O)C\nc1ccccc1\nnot a molecule\n")
    (folder / "measured.csv").write_text(
        "smiles,ea\nCCO,1.5\nCCC,0.5\nCCN,0.7\nCC=O,2.5\nC=C,0.2\n"
    )
    train = {
        "data": {
            "class_path": "sciwm.data.FrameData",
            "init_args": {"train": "labelled.h5md", "valid": 3, "batch_size": 4},
        },
        "task": {
            "class_path": "sciwm.training.ForceTask",
            "init_args": {
                "model": {
                    "class_path": "sciwm.models.ForceField",
                    "init_args": {
                        "encoder": {"cutoff": 3.0, "channels": 4, "lmax": 1, "layers": 1},
                        "reference_energies": {"H": -13.6, "O": -2040.0},
                    },
                },
                "energy_weight": 2.0,
                "learning_rate": 3e-3,
                "warmup": 1,
            },
        },
        "max_steps": 2,
        "validate_every": 1,
        "gradient_clip": 10.0,
        "seed": 0,
        "trainer": {"enable_progress_bar": False, "accelerator": "cpu"},
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(train, sort_keys=False))
    if main(["train", "train.yaml", "--folder", ".", "--name", "run"]) != 0:
        raise RuntimeError("the sample job was refused")
    path = "sciwm.discovery"
    library = {"start": ["CCO", "CC(=O)C", "CCN", "C=CC=O", "CC#N"], "max_heavy": 4}
    discover = {
        "objective": "maximize dipole; require sa_score < 6",
        "proposers": [
            {"class_path": f"{path}.planners.proposers.genetic.Genetic", "init_args": library}
        ],
        "gates": [
            {
                "class_path": f"{path}.problem.gates.Size",
                "init_args": {"max_atoms": 16, "max_heavy": 4},
            },
            {
                "class_path": f"{path}.problem.gates.Elements",
                "init_args": {"allowed": ["H", "C", "N", "O"]},
            },
            {"class_path": f"{path}.problem.gates.ChargeAndSpin"},
        ],
        "plan": {"calls": 2, "start": 1, "batch": 1, "pool": 4, "generations": 1},
        "workers": 1,
    }
    (folder / "discover.yaml").write_text(yaml.safe_dump(discover, sort_keys=False))


class _Sources:
    """Makes everything that can be imported."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._listed: list[tuple[str, str, tuple[str, ...], bool]] = []
        rng = np.random.default_rng(0)
        self._positions = WATER + 0.05 * rng.standard_normal((5, 3, 3))
        self._forces = rng.normal(size=(5, 3, 3))
        self._energy = rng.normal(size=5) - 2080
        self._numbers = np.array([8, 1, 1])

    def make(self) -> None:
        self._texts()
        self._arrays()
        self._layouts()
        self._trajectories()
        self._others()
        (self._folder / "sources.json").write_text(json.dumps(self._listed))

    def _place(self, label: str, name: str, *words: str, sound: bool = True) -> Path:
        """Where a source called `label` is to be written."""
        self._listed.append((name, label, words, sound))
        folder = self._folder / "sources" / label
        folder.mkdir(parents=True)
        return folder / name

    def _texts(self) -> None:
        atoms = []
        for frame in _frames(4):
            one = Atoms(frame.numbers, frame.positions, cell=[9, 9, 9], pbc=True)
            labels = {"energy": frame.energy - 2080.0, "forces": frame.forces}
            one.calc = SinglePointCalculator(one, **labels, stress=np.zeros(6))
            atoms.append(one)
        ase.io.write(self._place("extxyz", "water.extxyz"), atoms)
        ase.io.write(self._place("traj", "water.traj"), atoms)
        silicon = bulk("Si", cubic=True)
        for label, name in (
            ("cif", "si.cif"),
            ("vasp", "POSCAR"),
            ("xsf", "si.xsf"),
            ("json", "si.json"),
        ):
            ase.io.write(self._place(label, name), silicon)
        lines = []
        for step in range(3):
            lines += ["ITEM: TIMESTEP", str(10 * step), "ITEM: NUMBER OF ATOMS", "3"]
            lines += ["ITEM: BOX BOUNDS pp pp pp", *["0.0 9.0"] * 3]
            lines += ["ITEM: ATOMS id type element x y z vx vy vz fx fy fz"]
            for k, (x, y, z) in enumerate(self._positions[step]):
                lines.append(
                    f"{k + 1} {min(k, 1) + 1} {'OHH'[k]} {x:.5f} {y:.5f} {z:.5f} 0.01 0 0 1 0 0"
                )
        text = "\n".join(lines) + "\n"
        self._place("lammps", "water.lammpstrj", "--units", "metal").write_text(text)

    def _arrays(self) -> None:
        arrays = {
            "R": self._positions,
            "E": self._energy[:, None],
            "F": self._forces,
            "z": self._numbers,
        }
        np.savez(self._place("md17", "water.npz", "--units", "eV"), **arrays)
        deepmd = self._place("deepmd", "water")
        (deepmd / "set.000").mkdir(parents=True)
        (deepmd / "type.raw").write_text("0\n1\n1\n")
        (deepmd / "type_map.raw").write_text("O\nH\n")
        box = np.tile(9 * np.eye(3).ravel(), (5, 1))
        named = {"coord": self._positions.reshape(5, 9), "force": self._forces.reshape(5, 9)}
        for name, values in (named | {"box": box, "energy": self._energy}).items():
            np.save(deepmd / "set.000" / f"{name}.npy", values)

    def _layouts(self) -> None:
        hartree, kilojoule = 27.211386, 0.010364
        with h5py.File(self._place("spice", "water.h5"), "w") as file:
            group = file.create_group("water-1")
            group["conformations"] = self._positions / 0.529177
            group["dft_total_gradient"] = -self._forces / hartree * 0.529177
            group["dft_total_energy"] = self._energy / hartree
            group["atomic_numbers"] = self._numbers.astype(np.int16)
            for name, unit in (("conformations", "bohr"), ("dft_total_gradient", "hartree/bohr")):
                group[name].attrs["units"] = unit
            group["dft_total_energy"].attrs["units"] = "hartree"
            group["smiles"] = np.array(["[O:1]([H:2])[H:3]"], dtype=h5py.string_dtype())
            group["subset"] = np.array([b"SPICE"])
        with h5py.File(self._place("ani", "water.h5"), "w") as file:
            group = file.create_group("H2O1")
            group["coordinates"] = self._positions
            group["atomic_numbers"] = self._numbers.astype(np.uint8)
            group["wb97x_dz.energy"] = self._energy / hartree
            group["wb97x_dz.forces"] = self._forces / hartree
        with h5py.File(self._place("qm7x", "water.hdf5"), "w") as file:
            for k in range(2):
                group = file.create_group(f"1/Geom-m1-i1-c1-{k + 1}")
                values = (
                    self._numbers,
                    self._positions[k],
                    self._forces[k],
                    self._energy[k : k + 1],
                )
                for name, value in zip(
                    ("atNUM", "atXYZ", "totFOR", "ePBE0+MBD"), values, strict=True
                ):
                    group[name] = value
        with h5py.File(self._place("torchmdnet", "water.h5", "--units", "eV"), "w") as file:
            values = (self._numbers, self._positions, self._energy, self._forces)
            for name, value in zip(("types", "pos", "energy", "forces"), values, strict=True):
                file[f"3/{name}"] = value
        with h5py.File(self._place("mdtraj", "water.h5"), "w") as file:
            file.attrs["conventions"] = np.bytes_("Pande")
            file.attrs["conventionVersion"] = np.bytes_("1.1")
            file["coordinates"] = (self._positions / 10).astype(np.float32)
            file["potentialEnergy"] = self._energy / kilojoule
            file["time"] = np.arange(5) * 2.0
            file["cell_lengths"] = np.tile([1.0, 2.0, 3.0], (5, 1))
            file["cell_angles"] = np.tile([90.0, 90.0, 60.0], (5, 1))
            atoms = [{"index": k, "name": "X", "element": e} for k, e in enumerate("OHH")]
            topology = {"chains": [{"residues": [{"atoms": atoms}]}], "bonds": []}
            file["topology"] = np.array([json.dumps(topology).encode()])
        with h5py.File(self._place("torchsim", "water.h5md"), "w") as file:
            file.create_group("header").attrs["program"] = "TorchSim"
            arrays = {
                "positions": self._positions,
                "velocities": 0.001 * self._forces,
                "forces": self._forces,
                "cell": 9 * np.eye(3)[None],
                "atomic_numbers": self._numbers[None],
                "masses": np.array([[16.0, 1.0, 1.0]]),
                "pbc": np.array([True, True, True]),
            }
            for name, values in arrays.items():
                file[f"data/{name}"] = values
                file[f"steps/{name}"] = np.arange(5) * 10 if len(values) == 5 else [0]
        path = self._place("lagrangebench", "fluid.h5")
        with h5py.File(path, "w") as file:
            for name in ("00000", "00001"):
                file[f"{name}/position"] = self._positions[:, :, :2].astype(np.float32) + 1
                file[f"{name}/particle_type"] = np.array([0, 0, 3])
        bounds = {"bounds": [[0.0, 5.0], [0.0, 4.0]], "periodic_boundary_conditions": [True, False]}
        path.with_name("metadata.json").write_text(
            json.dumps({"dt": 0.01, "write_every": 4} | bounds)
        )
        for name in ("labelled.h5md", "moving.h5md"):
            path = self._place(f"h5md-{name[:-5]}", name)
            path.write_bytes((self._folder / name).read_bytes())

    def _trajectories(self) -> None:
        atoms = Atoms()
        for k in range(4):
            one = molecule("H2O")
            one.translate([3.0 * k, 0, 0])
            atoms += one
        universe = MDAnalysis.Universe.empty(12, trajectory=True, velocities=True, forces=True)
        universe.add_TopologyAttr("names", list("OHH") * 4)
        universe.add_TopologyAttr("elements", list("OHH") * 4)
        universe.add_TopologyAttr("resnames", ["SOL"])
        universe.dimensions = [20, 20, 20, 90, 90, 90]
        for suffix in ("xtc", "trr", "dcd", "nc", "pdb", "gro"):
            alone = suffix in ("pdb", "gro")
            words = () if alone else ("--topology", "water.pdb")
            path = self._place(suffix, f"water.{suffix}", *words)
            with MDAnalysis.Writer(str(path), 12, multiframe=not alone) as writer:
                for step in range(1 if alone else 3):
                    universe.atoms.positions = atoms.positions + 0.01 * step
                    writer.write(universe.atoms)
            if not alone:
                universe.atoms.write(str(path.with_name("water.pdb")))

    def _others(self) -> None:
        """Files of other programs, where they are beside the project."""
        for name, words in TAKEN.items():
            if (REFERENCE / name).is_file():
                file = REFERENCE / name
                content = file.read_bytes()
                if file.name.endswith("xyz.gz"):
                    content = gzip.compress(_first_frames(content, 2), mtime=0)
                self._place(file.name.replace(".", "-"), file.name, *words).write_bytes(content)
        for folder in REFUSED:
            for file in sorted((REFERENCE / "md_formats" / folder).glob("[!.]*")):
                words = ("--units", "lj") if folder == "lammps_bad" else ()
                place = self._place(f"{folder}-{file.stem}", file.name, *words, sound=False)
                place.write_bytes(file.read_bytes())


def _first_frames(zipped: bytes, count: int) -> bytes:
    lines = gzip.decompress(zipped).decode().splitlines()
    at = 0
    for _ in range(count):
        at += int(lines[at]) + 2
    return ("\n".join(lines[:at]) + "\n").encode()
