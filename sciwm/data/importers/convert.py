"""From any source to one H5MD file: streamed, checked, and never half written."""

import datetime
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, count, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sciwm.core.frame import Frame
from sciwm.core.progress import Bar
from sciwm.core.properties import PROPERTIES
from sciwm.core.units import REDUCED, UnitSystem
from sciwm.data.h5md.writer import H5MDWriter
from sciwm.data.importers.checks import LABELS, Fault, fault
from sciwm.data.importers.detection import detect
from sciwm.data.importers.plausibility import doubts
from sciwm.data.importers.source import Importer, ImportOptions, SourceError, foreign_reader
from sciwm.data.importers.source_units import SourceUnits
from sciwm.data.table import FieldTable, describe

PREVIEW_FRAMES = 64
PREVIEW_ATOMS = 1_000_000
"""How much is looked at before anything is written, to tell units, labels and clocks."""

LABEL_BYTES = 64
"""H5MD has room for labels of this length."""


@dataclass
class ImportReport:
    """What was imported, what was left out, and what the file now holds.

    Attributes:
        source, target: Paths.
        format: Name of the importer.
        units: The units converted from.
        frames: Frames written.
        skipped: Kind of fault -> frames left out for it.
        warnings: What the user should know.
        table: The fields of the new file.
    """

    source: Path
    target: Path
    format: str
    units: SourceUnits
    frames: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    table: FieldTable | None = None

    def __str__(self) -> str:
        lines = [
            f"{self.frames} frames from {self.source} ({self.format}) to {self.target}",
            f"read as: {self.units}",
        ]
        lines += [f"left out: {count} frames, {kind}" for kind, count in self.skipped.items()]
        lines += [f"warning: {sentence}" for sentence in self.warnings]
        return "\n".join([*lines, str(self.table)])


def convert(
    source: Path | str, to: Path | str, options: ImportOptions | None = None, progress: bool = True
) -> ImportReport:
    """Imports a source into a new H5MD file.

    The file takes its place only once it is complete: until then it is called `<to>.partial`, and
    whatever stood at `to` before stays as it is.

    Raises:
        SourceError: If the source cannot be read, or a frame is refused and not to be skipped.
        OSError: If the target cannot be written.
    """
    source, to, options = Path(source), Path(to), options or ImportOptions()
    importer = detect(source)
    if to.exists() and to.resolve() == source.resolve():
        raise SourceError(source, "", "is both source and target", "Name another target")
    with foreign_reader(source, ""):
        units = importer.units(source, options)
    report = ImportReport(source, to, importer.name, units)
    provenance = {
        "source": source.name,
        "fingerprint": fingerprint(source),
        "format": importer.name,
        "units": str(units),
        "options": {k: str(v) for k, v in vars(options).items() if v not in (None, False)},
        "imported": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    partial = _fresh_partial(to)
    admission = _Admission(report, options)
    try:
        with H5MDWriter(
            partial,
            units=units.system,
            creator_note=f"imported from {source.name} ({importer.name})",
            parameters=provenance,
        ) as writer:
            raw = _read(importer, source, options)
            shown = Bar(raw, desc=source.name, unit=" frames", disable=not progress)
            for frame, group in admission.admitted(shown):
                writer.append(frame, group)
                report.frames += 1
        if report.frames == 0:
            raise SourceError(source, "", "holds no usable frame", "See what was left out and why")
        absent = options.properties.keys() - admission.properties
        if absent:
            keys = ", ".join(repr(options.properties[name]) for name in sorted(absent))
            raise SourceError(
                source,
                "",
                f"no frame holds {keys}, wanted as {', '.join(sorted(absent))}",
                "Name the right keys; properties are read from extended XYZ only",
            )
        os.replace(partial, to)
    finally:
        # Also when interrupted from the keyboard.
        partial.unlink(missing_ok=True)
    report.table = describe(to)
    return report


def fingerprint(source: Path) -> str:
    """A hash of size, first and last MiB, of a file or of every file in a folder."""
    digest = hashlib.sha256()
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.relative_to(source.parent)} {size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
    return digest.hexdigest()


def _fresh_partial(to: Path) -> Path:
    """The name to write under, cleared of what an interrupted import left there."""
    if not to.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {to.parent} to write {to.name} into")
    partial = to.with_name(to.name + ".partial")
    if partial.exists():
        # A living writer holds a lock; its file must not be pulled from under it.
        with partial.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise FileExistsError(
                    f"another import is writing {partial}; wait for it, or choose another target"
                ) from error
        partial.unlink()
    return partial


class _Admission:
    """Decides which frames enter, into which group, and on which clock.

    Attributes:
        properties: Names of those met so far.
    """

    def __init__(self, report: ImportReport, options: ImportOptions):
        self._report = report
        self._options = options
        self._system: UnitSystem = report.units.system
        self._groups: dict[bytes, str] = {}
        self._counts: dict[str, int] = {}
        self._dropped_label = False
        self.properties: set[str] = set()

    def admitted(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, str]]:
        """The frames to write, each with the name of its group."""
        stream = iter(frames)
        preview = _preview(stream)
        self._require_plausible(preview)
        self._wanted = {label for label in LABELS for f in preview if getattr(f, label) is not None}
        self._expected = {name for f in preview for name in f.properties}
        self._labelled = any(frame.label is not None for frame in preview)
        self._steps_rise = _rises([(f.trajectory, f.step) for f in preview])
        self._times_rise = _rises([(f.trajectory, f.time) for f in preview])
        if self._system is REDUCED and any(frame.masses is None for frame in preview):
            self._report.warnings.append("the source gives no masses; all are taken as 1")
        for index, frame in enumerate(chain(preview, stream)):
            frame = self._clocked(frame)
            reason = fault(frame, self._system) or self._incomplete(frame)
            if reason is None:
                self.properties |= frame.properties.keys()
                frame = self._completed(frame)
                yield frame, self._group(frame)
            elif self._options.skip_bad:
                skipped = self._report.skipped
                skipped[reason.kind] = skipped.get(reason.kind, 0) + 1
            else:
                raise SourceError(
                    self._report.source,
                    f"frame {index}",
                    reason.reason,
                    f"{reason.remedy}; --skip_bad true leaves such frames out".lstrip("; "),
                )

    def _require_plausible(self, preview: list[Frame]) -> None:
        sound = [frame for frame in preview if fault(frame, self._system) is None]
        for doubt in doubts(sound, self._report.units):
            # Whoever has stated the units is informed, not stopped.
            if doubt.certain and self._options.units is None:
                raise SourceError(self._report.source, "", doubt.sentence, doubt.remedy)
            self._report.warnings.append(f"{doubt.sentence}. {doubt.remedy}")

    def _incomplete(self, frame: Frame) -> Fault | None:
        """A label that this frame lacks or has unlike the first ones."""
        for label in LABELS:
            there = getattr(frame, label) is not None
            # A lone atom feels no force, and only a crystal has a stress.
            exempt = (label in ("forces", "velocities") and len(frame) == 1) or (
                label == "stress" and not frame.pbc.all()
            )
            if there == (label in self._wanted) or (exempt and not there):
                continue
            verb = "has" if there else "lacks"
            return Fault(
                f"{verb} {label} unlike the first frames",
                f"{verb} {label}, unlike the first frames",
                "A label is needed in every frame or in none",
            )
        return None

    def _clocked(self, frame: Frame) -> Frame:
        """Steps and times for frames that follow one another; none for independent ones."""
        timestep = self._options.timestep
        key = frame.trajectory
        index = self._counts.get(key, 0)
        self._counts[key] = index + 1
        if not key and timestep is None:
            return replace(frame, step=None, time=None)
        step = frame.step if frame.step is not None and self._steps_rise else index
        time = frame.time if self._times_rise else None
        if time is None and timestep is not None:
            time = step * timestep
        return replace(frame, step=step, time=time)

    def _completed(self, frame: Frame) -> Frame:
        """What a file needs in every frame if in one."""
        label = frame.label
        if label is not None:
            label = label.encode()[:LABEL_BYTES].decode(errors="ignore")
        if self._labelled:
            label = label or ""
        elif label is not None:
            label = None
            if not self._dropped_label:
                self._dropped_label = True
                self._report.warnings.append(
                    f"labels such as {frame.label!r} begin after the first frames and are left out"
                )
        masses = frame.masses
        if masses is None and self._system is REDUCED:
            masses = np.ones(len(frame))
        # One property missing here and there must not cut a time series into pieces.
        unknown = {
            name: np.full(PROPERTIES[name].sample_shape(len(frame)), np.nan)
            for name in self._expected - frame.properties.keys()
        }
        properties = frame.properties | unknown
        return replace(frame, label=label, masses=masses, properties=properties)

    def _group(self, frame: Frame) -> str:
        """Frames of the same particles in the same trajectory share a group."""
        digest = hashlib.blake2b(digest_size=16)
        present = [getattr(frame, name) is not None for name in (*LABELS, "images", "time")]
        head: list[Any] = [frame.trajectory, frame.smiles, frame.dimension, present]
        head += sorted(frame.properties)
        digest.update(repr(head).encode())
        for array in (frame.numbers, frame.pbc, frame.masses, frame.charges):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        count = len(self._groups)
        name = f"trajectory_{count}" if count else "trajectory"
        return self._groups.setdefault(digest.digest(), name)


def _read(importer: Importer, source: Path, options: ImportOptions) -> Iterator[Frame]:
    """The frames, with the number of the frame at which reading failed in any other way."""
    frames = importer.frames(source, options)
    for index in count():
        with foreign_reader(source, f"frame {index}"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _preview(stream: Iterator[Frame]) -> list[Frame]:
    frames: list[Frame] = []
    atoms = 0
    for frame in stream:
        frames.append(frame)
        atoms += len(frame)
        if len(frames) == PREVIEW_FRAMES or atoms >= PREVIEW_ATOMS:
            break
    return frames


def _rises(clock: list[tuple[str, float | None]]) -> bool:
    """Whether readings grow from frame to frame; some programs write the same one always."""
    pairs = [
        (a, b)
        for (one, a), (other, b) in pairwise(clock)
        if one == other and a is not None and b is not None
    ]
    return not pairs or sum(b > a for a, b in pairs) * 2 > len(pairs)
