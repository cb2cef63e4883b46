"""What is attacked: importers, model files, objectives, job files, options of commands.

Each family puts files into an empty folder and gives the words of a command to run there.
"""

import contextlib
import inspect
import io
import re
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import yaml

from fuzzing import hdf5
from fuzzing.mutation import changed_array, changed_bytes, changed_text, changed_tree
from fuzzing.samples import Source, sources
from sciwm.cli import COMMANDS
from sciwm.data import FrameData
from sciwm.discovery.campaigns import Job
from sciwm.discovery.plan import CampaignPlan
from sciwm.discovery.problem.descriptors import DESCRIPTORS
from sciwm.discovery.problem.objective.parser import FUNCTIONS
from sciwm.models import Encoder, ForceField
from sciwm.models.content import content_digest
from sciwm.training import ForceTask
from sciwm.training.fit import fit

Family = Callable[[Random, Path, Path], list[str]]
"""(random numbers, folder of the samples, folder of the case) to the words of a command."""

SCORE = "score"
"""In the place of a command: an objective is read and asked about numbers, without molecules."""

TEXTS = (
    ".xyz",
    ".extxyz",
    ".lammpstrj",
    ".pdb",
    ".gro",
    ".arc",
    ".cif",
    ".xsf",
    ".raw",
    ".json",
    ".body",
    ".smi",
    ".csv",
)


def imports(rng: Random, samples: Path, folder: Path) -> list[str]:
    """A damaged source."""
    source = rng.choice(sources(samples))
    words = _copied(source, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    _damage(rng, rng.choice(files))
    if rng.random() < 0.1:
        words += rng.choice(
            (["--skip_bad"], ["--timestep", "1"], ["--units", "eV"], ["--elements", "H"])
        )
    return words


def stored(rng: Random, samples: Path, folder: Path) -> list[str]:
    """A damaged H5MD file where one is read."""
    for name in ("labelled.h5md", "run/model.pt"):
        _copy(samples, folder, name)
    _damage(rng, folder / "labelled.h5md")
    return rng.choice((
        ["info", "labelled.h5md"],
        ["simulate", "run", "labelled.h5md", "1fs", "--out", "out.h5md", "--every", "1"],
        ["evaluate", "run", "--data", "labelled.h5md"],
    ))  # fmt: skip


def models(rng: Random, samples: Path, folder: Path) -> list[str]:
    """A damaged model file."""
    for name in ("labelled.h5md", "run/model.pt"):
        _copy(samples, folder, name)
    file = folder / "run" / "model.pt"
    if rng.random() < 0.4:
        file.write_bytes(changed_bytes(rng, file.read_bytes()))
    else:
        content = torch.load(file, weights_only=True)
        if rng.random() < 0.3:
            name = rng.choice(sorted(content["state"]))
            content["state"][name] = _changed_tensor(rng, content["state"][name])
        else:
            part = rng.choice(("model", "model", None, None, "versions", "data"))
            if part is None:
                content = changed_tree(rng, content)
            else:
                content[part] = changed_tree(rng, content[part])
        if rng.random() < 0.8:
            _seal(content)
        stream = io.BytesIO()
        torch.save(content, stream)
        file.write_bytes(stream.getvalue())
    return rng.choice((
        ["info", "run"],
        ["info", "run/model.pt"],
        ["simulate", "run", "labelled.h5md", "1fs", "--out", "out.h5md", "--every", "1"],
    ))  # fmt: skip


def objectives(rng: Random, samples: Path, folder: Path) -> list[str]:
    """An objective of the grammar, or nearly; sometimes with a library or measurements that are damaged."""
    text = objective(rng)
    if rng.random() < 0.8:
        return [SCORE, text]
    for name in ("library.smi", "measured.csv"):
        _copy(samples, folder, name)
        if rng.random() < 0.5:
            _damage(rng, folder / name)
    words = ["screen", "library.smi", "--objective", text, "--out", "table.csv"]
    return words + rng.choice(([], ["--table", "measured.csv", "--units", '{"ea": "eV"}']))


def jobs(rng: Random, samples: Path, folder: Path) -> list[str]:
    """A damaged job file."""
    _copy(samples, folder, "labelled.h5md")
    command = rng.choice(("train", "train", "train", "discover"))
    text = (samples / f"{command}.yaml").read_text()
    kind = rng.randrange(4)
    if kind == 0:
        text = changed_text(rng, text)
    elif kind == 1:
        text = _oddity(rng, text)
    else:
        text = yaml.safe_dump(changed_tree(rng, yaml.safe_load(text)), sort_keys=False)
    text = _without_roots(LONG_WORK.sub(r"\1 2", text))
    (folder / "job.yaml").write_text(text, errors="surrogatepass")
    words = [command, "job.yaml"]
    # Without numbers of its own a job does much work.
    few = {"train": {"max_steps": 2}, "discover": {"plan.calls": 2, "plan.pool": 20}}[command]
    for name, number in few.items():
        if not re.search(rf"^ *{name.rpartition('.')[2]}: ", text, re.MULTILINE):
            words += [f"--{name}", str(number)]
    return words


def options(rng: Random, samples: Path, folder: Path) -> list[str]:
    """An option of a command with a value that it may not expect."""
    for name in ("labelled.h5md", "moving.h5md", "library.smi", "measured.csv"):
        _copy(samples, folder, name)
    shutil.copytree(samples / "run", folder / "run")
    _copied(Source("water.extxyz", samples / "sources" / "extxyz"), folder)
    for name in ("train.yaml", "discover.yaml"):
        _copy(samples, folder, name)
    command = rng.choice(sorted(SOUND))
    words, known = list(SOUND[command]), option_names(command)
    if rng.random() < 0.12:
        at = rng.randrange(1, len(words))
        words[at] = rng.choice(GIVEN)
        return words
    for _ in range(rng.choice((1, 1, 1, 2))):
        name = rng.choice(known)
        value = rng.choice(GIVEN)
        if name in AMOUNTS and re.fullmatch(r"\d{3,}|1e9|1e30", value):
            continue  # much to do is done
        words += [f"--{name}={value}"] if rng.random() < 0.3 else [f"--{name}", value]
    return words


LONG_WORK = re.compile(
    r"\b((?:max_steps|calls|pool|generations|matrix_rounds|max_epochs):) *"
    r"[+\"']?(?:\d{3,}|\d\S*e\+?\d|\.inf)\S*"
)
"""Numbers in a job that ask for much work, which is done."""

FAMILIES: dict[str, tuple[Family, int]] = {
    "import": (imports, 10),
    "stored": (stored, 3),
    "model": (models, 3),
    "objective": (objectives, 2),
    "job": (jobs, 3),
    "option": (options, 6),
}
"""With how often each is drawn."""

SOUND = {
    "import": ("import", "water.extxyz", "--to", "new.h5md"),
    "info": ("info", "labelled.h5md"),
    "train": ("train", "train.yaml"),
    "evaluate": ("evaluate", "run", "--data", "labelled.h5md"),
    "simulate": ("simulate", "run", "labelled.h5md", "1fs", "--out", "out.h5md", "--every", "1"),
    "screen": ("screen", "library.smi", "--objective", "minimize sa_score", "--out", "table.csv"),
    "discover": ("discover", "discover.yaml"),
    "report": ("report", "run"),
}
"""A command that works, for each but two: `check` and `compile` take a minute of a sound model, and have no
numbers of their own."""

SLOW = ("screen", "discover")
"""Of these, those that start processes of their own."""

GIVEN = ("0", "-1", "1", "2.5", "-0.5", "nan", "inf", "-inf", "", " ", "1e-320", "1e9", "1e30", "1e400",
         "9" * 40, "-" * 3, "x", "H", "null", "true", "[]", "{}", "[1,2", "{a: 1}", "[[1]]", "a,b", "'", "é",
         "nowhere", "nowhere/at/all.h5md", "labelled.h5md", "moving.h5md", "run", "run/model.pt", ".",
         "library.smi", "y" * 300, "1fs", "-300K", "300 K", "1e30K", "nanfs", "0fs", ":", "::0", "5:1",
         "*a", "!!python/none", "a: b", "-2:", "a-b.h5md")  # fmt: skip

AMOUNTS = ("max_steps", "validate_every", "copies", "task.cpu_seconds", "plan.calls", "plan.seconds", "time",
           "plan.start", "plan.batch", "plan.pool", "plan.generations", "workers", "data.workers",
           "run_seconds", "task.warmup", "task.matrix_rounds", "task.model.init_args.encoder.channels",
           "task.model.init_args.encoder.layers", "task.model.init_args.encoder.basis_size")  # fmt: skip
"""Options of which a large number is a large job."""

TRAINER = (
    "accelerator",
    "devices",
    "precision",
    "max_epochs",
    "limit_val_batches",
    "nothing",
    "strategy",
)


def option_names(command: str) -> list[str]:
    """Every option of a command; of jobs, those of the classes that the sample job names too."""
    if command == "train":
        return [
            *_parameters(fit, "data", "task"),
            *(f"data.{name}" for name in _parameters(FrameData)),
            *(f"task.{name}" for name in _parameters(ForceTask, "model")),
            *(f"task.model.init_args.{name}" for name in _parameters(ForceField, "encoder")),
            *(f"task.model.init_args.encoder.{name}" for name in _parameters(Encoder)),
            *(f"trainer.{name}" for name in TRAINER),
        ]
    if command == "discover":
        plan = (f"plan.{name}" for name in _parameters(CampaignPlan))
        return [*_parameters(Job, "ledger"), *plan, "name", "folder", "seed"]
    module = import_module(COMMANDS[command][0])
    function = getattr(module, "import_" if command == "import" else command)
    named = inspect.signature(function).parameters.values()
    return [p.name for p in named if p.kind is p.KEYWORD_ONLY] or ["x"]


def objective(rng: Random) -> str:
    """Goals and conditions over descriptors, some of them with a mistake."""
    names = [*DESCRIPTORS, "sa_score", "ea"]

    def quantity(depth: int) -> str:
        kind = rng.randrange(8 if depth else 3)
        if kind <= 1:
            return rng.choice(names)
        if kind == 2:
            unit = rng.choice(("", "", " eV", " Å", " x"))
            return (
                rng.choice(("0", "1", "2.5", "1e30", "1e308", "1e400", "1e-320", ".5", "00")) + unit
            )
        if kind <= 4:
            return f"({quantity(depth - 1)} {rng.choice('+-*/')} {quantity(depth - 1)})"
        if kind == 5:
            return f"{rng.choice(('-', '+'))}{quantity(depth - 1)}"
        if kind == 6:
            return f"{quantity(0)}**{rng.choice(('2', '-1', '0', '0.5', '8', '9', '-'))}"
        arguments = ", ".join(quantity(depth - 1) for _ in range(rng.choice((0, 1, 1, 2, 3, 4))))
        return f"{rng.choice(FUNCTIONS)}({arguments})"

    parts = [f"{rng.choice(('maximize', 'minimize'))} {quantity(rng.randrange(4))}"]
    for _ in range(rng.choice((0, 0, 1, 2))):
        sign = rng.choice(("<", ">", "<=", ">=", "=", "<<"))
        condition = f"require {quantity(1)} {sign} {quantity(1)}"
        parts.append(rng.choice((condition, f"minimize {quantity(2)}")))
    text = "; ".join(parts)
    kind = rng.randrange(10)
    if kind == 0:
        text = changed_text(rng, text)
    elif kind == 1:
        text = rng.choice(
            ("(" * 500, "-" * 500 + "1", text * 60, "1" + "+1" * 900, "", ";", "x.__class__")
        )
    return text


def _parameters(function: Callable[..., Any], *but: str) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in but]


def _copied(source: Source, folder: Path) -> list[str]:
    """The words that import a source, which is then in the folder."""
    shutil.copytree(source.folder, folder, dirs_exist_ok=True)
    return ["import", source.name, "--to", "new.h5md", *source.words]


def _copy(samples: Path, folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    shutil.copyfile(samples / name, folder / name)


def _damage(rng: Random, file: Path) -> None:
    """Changes a file as its kind is easily broken, or by bytes."""
    if file.suffix in TEXTS or file.name == "POSCAR":
        if rng.random() < 0.8:
            text = changed_text(rng, file.read_text(errors="surrogateescape"))
            file.write_text(text, errors="surrogateescape", newline="")
            return
    elif rng.random() < 0.7:
        if file.suffix in (".h5", ".hdf5", ".h5md"):
            hdf5.change(rng, file)
            return
        if file.suffix == ".npy":
            np.save(file, changed_array(rng, np.load(file)))
            return
        if file.suffix == ".npz":
            with np.load(file) as archive:
                arrays = {name: archive[name] for name in archive.files}
            name = rng.choice(sorted(arrays))
            if rng.random() < 0.2:
                del arrays[name]
            else:
                arrays[name] = changed_array(rng, arrays[name])
            np.savez(file, **arrays)
            return
    file.write_bytes(changed_bytes(rng, file.read_bytes()))


def _changed_tensor(rng: Random, tensor: torch.Tensor) -> Any:
    if rng.random() < 0.2:
        return rng.choice(
            (None, 1.0, "x", [], tensor.to(torch.complex64), tensor.bool(), tensor.to_sparse())
        )
    changed = changed_array(rng, tensor.numpy())
    native = changed.astype(changed.dtype.newbyteorder("="))
    return torch.from_numpy(native) if native.dtype.kind in "fiubc" else str(native)


def _seal(content: dict[str, Any]) -> None:
    """Gives a model file the digest that its content has, as whoever wants it read would."""
    content.pop("digest", None)
    with contextlib.suppress(ValueError):  # what no digest can be made of needs none
        content["digest"] = content_digest(content)


def _oddity(rng: Random, text: str) -> str:
    """What YAML offers and no job needs."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for one, other in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{other}: &{other} [{', '.join(['*' + one] * 9)}]\n"
    return rng.choice((
        bomb + text,
        bomb + text + "trainer: *i\n",
        text + "trainer: &t {x: *t}\n",
        text + "data: !!python/object/apply:os.getcwd []\n",
        text + "seed: !!binary aGVsbG8=\n",
        text + "x: " + "[" * 3000 + "]" * 3000 + "\n",
        text + "x: " + "{a: " * 500 + "1" + "}" * 500 + "\n",
        text + "<<: {seed: 1}\n",
        text + "---\n" + text,
        text + "seed: 0o77777777777777777777777\n",
        text + "seed: 1_000:59:59\n",
        text + "? [1, 2]\n: 3\n",
        text.replace("  ", "\t"),
        "\ufeff" + text,
        text + "\x00",
        "null",
        "[]",
        "5",
        "",
    ))  # fmt: skip


def _without_roots(text: str) -> str:
    """Without paths from the root of the disk, where a case must not write."""
    return re.sub(r"(^|[\s'\"\[{,:=])[/~]+", r"\1", text.replace("..", "."), flags=re.M)
