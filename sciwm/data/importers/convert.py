"""From any source to one H5MD file: streamed, checked, and never half written."""

import datetime
import hashlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain, count, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sciwm.core.frame import Frame
from sciwm.core.progress import Bar
from sciwm.core.properties import PROPERTIES
from sciwm.core.units import MOLECULAR, REDUCED, UnitSystem
from sciwm.data.h5md.writer import H5MDWriter
from sciwm.data.importers.checks import LABELS, Fault, fault
from sciwm.data.importers.detection import detect
from sciwm.data.importers.plausibility import doubts
from sciwm.data.importers.remarks import Remarks
from sciwm.data.importers.source import (
    COMMON_OPTIONS,
    Importer,
    ImportOptions,
    SourceError,
    foreign_reader,
)
from sciwm.data.importers.source_units import SourceUnits
from sciwm.data.importers.target import new_file
from sciwm.data.importers.virtual_sites import without_virtual_sites
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
        left_out: What was left out of frames that were written.
        warnings: What the user should know.
        table: The fields of the new file.
    """

    source: Path
    target: Path
    format: str
    units: SourceUnits
    frames: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    table: FieldTable | None = None

    def __str__(self) -> str:
        lines = [
            f"{self.frames} frames from {self.source} ({self.format}) to {self.target}",
            f"read as: {self.units}",
        ]
        lines += [f"left out: {part}" for part in (*self.skipped_frames, *self.left_out)]
        lines += [f"warning: {sentence}" for sentence in self.warnings]
        return "\n".join([*lines, str(self.table)])

    @property
    def skipped_frames(self) -> list[str]:
        """One line per kind of fault."""
        return [f"{count} frames, {kind}" for kind, count in self.skipped.items()]


def convert(
    source: Path | str,
    to: Path | str,
    options: ImportOptions | None = None,
    progress: bool = True,
    overwrite: bool = False,
) -> ImportReport:
    """Imports a source into a new H5MD file, which takes its place only once it is complete.

    Raises:
        SourceError: If the source cannot be read, a frame is refused and not to be skipped, or an
            option is of no use for this source.
        FileExistsError: If there is a file at `to` that is not to be overwritten, or another
            import is writing there.
        OSError: If the target cannot be written.
    """
    source, to = Path(source), Path(to)
    options = replace(options or ImportOptions(), remarks=Remarks())
    importer = detect(source)
    if to.exists() and to.resolve() == source.resolve():
        raise SourceError(source, "", "is both source and target", "Name another target")
    _require_useful(options, importer, source)
    with foreign_reader(source, ""):
        units = importer.units(source, options)
    report = ImportReport(source, to, importer.name, units)
    with new_file(to, overwrite) as partial:
        _write(report, importer, options, partial, progress)
    report.table = describe(to)
    return report


def _write(
    report: ImportReport, importer: Importer, options: ImportOptions, path: Path, progress: bool
) -> None:
    """Writes the file, and counts in the report."""
    source = report.source
    provenance = {
        "source": source.name,
        "fingerprint": fingerprint(source),
        "format": importer.name,
        "units": str(report.units),
        "options": {name: str(value) for name, value in options.given.items()},
        "imported": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    admission = _Admission(report, options)
    with (
        H5MDWriter(
            path,
            units=report.units.system,
            creator_note=f"imported from {source.name} ({importer.name})",
            parameters=provenance,
        ) as writer,
        closing(_read(importer, source, options)) as raw,
    ):
        shown = Bar(raw, desc=source.name, unit=" frames", disable=not progress)
        for frame, group in admission.admitted(shown):
            writer.append(frame, group)
            report.frames += 1
    report.left_out = options.remarks.left_out
    report.warnings += options.remarks.warnings
    _require_found(report, options, admission)


def _require_useful(options: ImportOptions, importer: Importer, source: Path) -> None:
    """Refuses options that would be ignored."""
    useless = sorted(options.given.keys() - COMMON_OPTIONS - importer.accepts)
    if useless:
        named = " and ".join(f"--{name}" for name in useless)
        useful = ", ".join(f"--{name}" for name in sorted(importer.accepts)) or "none of that kind"
        raise SourceError(
            source,
            "",
            f"is {importer.name}, which has no use for {named}",
            f"Leave it out; this format takes {useful}",
        )
    if options.topology is not None and options.elements is not None:
        raise SourceError(
            source,
            "",
            f"has its elements named twice, by topology {options.topology} and elements "
            f"{options.elements!r}",
            "Pass one of --topology and --elements",
        )


def _require_found(report: ImportReport, options: ImportOptions, admission: "_Admission") -> None:
    """Refuses an import without frames, or without the labels that the user has named."""
    if report.frames == 0:
        why = "; ".join([*report.skipped_frames, *report.left_out])
        raise SourceError(
            report.source,
            "",
            "holds no usable frame" + (f", left out were: {why}" if why else ""),
            "Mend these frames at their source" if why else "Check that it holds any",
        )
    absent = {
        f"{options.properties[name]!r}, wanted as {name}"
        for name in options.properties.keys() - admission.properties
    }
    for label, key in (("energy", options.energy_key), ("forces", options.forces_key)):
        if key is not None and label not in admission.labels:
            absent.add(f"{key!r}, wanted as {label}")
    if absent:
        raise SourceError(
            report.source,
            "",
            f"no frame holds {' and '.join(sorted(absent))}",
            "Name the right keys",
        )


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


class _Admission:
    """Decides which frames enter, into which group, and on which clock.

    Attributes:
        properties: Names of those met so far.
        labels: Of `LABELS`, those met so far.
    """

    def __init__(self, report: ImportReport, options: ImportOptions):
        self._report = report
        self._options = options
        self._system: UnitSystem = report.units.system
        self._groups: dict[bytes, str] = {}
        self._counts: dict[str, int] = {}
        self._dropped_label = False
        self.properties: set[str] = set()
        self.labels: set[str] = set()

    def admitted(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, str]]:
        """The frames to write, each with the name of its group."""
        stream = iter(frames)
        if self._system is MOLECULAR:  # type 0 is a particle like others where units are reduced
            stream = (without_virtual_sites(frame, self._options.remarks) for frame in frames)
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
                self.labels |= {one for one in LABELS if getattr(frame, one) is not None}
                # Groups and gaps part frames from their places in the source.
                frame = self._completed(frame).with_(source_frame=index)
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
        if timestep is not None:
            # Whoever states it knows better than a file, which may count in another unit.
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
        present = [
            getattr(frame, name) is not None for name in (*LABELS, "unpaired", "images", "time")
        ]
        head: list[Any] = [frame.trajectory, frame.smiles, frame.dimension, present]
        head += sorted(frame.properties)
        digest.update(repr(head).encode())
        for array in (frame.numbers, frame.pbc, frame.masses, frame.charges):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        count = len(self._groups)
        name = f"trajectory_{count}" if count else "trajectory"
        return self._groups.setdefault(digest.digest(), name)


def _read(importer: Importer, source: Path, options: ImportOptions) -> Generator[Frame, None, None]:
    """The frames, with the number of the frame at which reading failed in any other way."""
    frames = importer.frames(source, options)
    for index in count():
        # Damaged numbers may overflow on their way here, and are refused when they arrive.
        with foreign_reader(source, f"frame {index}"), np.errstate(all="ignore"):
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
