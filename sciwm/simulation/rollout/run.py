"""The loop that steps every system and stops those that cannot go on."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sciwm.core.bounds import require_counts
from sciwm.core.file_lock import sole_writer
from sciwm.core.frame import Frame
from sciwm.core.plausibility import require_plausible
from sciwm.core.progress import Bar
from sciwm.core.state import State
from sciwm.data.h5md.writer import H5MDWriter
from sciwm.simulation.propagators.propagator import Propagator
from sciwm.simulation.rollout.checkpoint import Checkpoint
from sciwm.simulation.rollout.events import Watch
from sciwm.simulation.rollout.frame_store import Frames, FrameStore
from sciwm.simulation.rollout.snapshot import Snapshot
from sciwm.simulation.rollout.stability import (
    Guard,
    Trust,
    implausible_systems,
    systems_outside,
)
from sciwm.simulation.simulator import SimulatorError
from sciwm.simulation.velocities import kinetic_energy


@dataclass(frozen=True, eq=False)
class RolloutResult:
    """How far each system came.

    Attributes:
        state: The last trusted state of every system, with its energy and forces where it has any.
        steps: Completed steps of each system.
        reasons: Why each system stopped early; None for those that did not.
        frames: The trajectory of each system; empty where it went to a file.
    """

    state: State
    steps: list[int]
    reasons: list[str | None]
    frames: list[list[Frame]]


class Rollout:
    """Runs a propagator over many systems.

    Args:
        output: An H5MD file with one group per system; without it frames stay in memory.
        every: Steps between frames. Where the propagator should not be trusted is checked at each.
        watch: Ends systems at which something has happened; what it saw of the last frames before an
            interruption is forgotten.
        checkpoint_seconds: Wall time between checkpoints: what a kill can cost.
        guard: Ends systems that cannot go on; by default those that blow up or leave the propagator's
            domain.
        bar: Whether a bar shows how far a long run is; not where it is part of something that has one.
    """

    def __init__(
        self,
        propagator: Propagator,
        output: Path | None = None,
        every: int = 1,
        checkpoint_seconds: float = 30.0,
        watch: Watch | None = None,
        guard: Guard | None = None,
        bar: bool = True,
    ):
        if every < 1:
            raise ValueError(f"frames are one or more steps apart, got {every=}")
        self.propagator = propagator
        self.output = Path(output) if output is not None else None
        self.every = every
        self.checkpoint_seconds = checkpoint_seconds
        self.watch = watch
        self.guard = guard
        self.bar = bar

    def run(
        self, state: State, steps: int, names: Sequence[str] | None = None, resume: bool = False
    ) -> RolloutResult:
        """Simulates until `steps` steps are done, those before an interruption included.

        Args:
            state: Where every system starts; the same again to resume.
            names: The group of each system in the file; system0, system1, ... by default.
            resume: Continue the output where there is one.

        Raises:
            FileExistsError: If the output exists and is not to be continued.
            OSError: If another process writes it.
            ValueError: If it is the output of another run, or the propagator's temperature or stride
                cannot be.
        """
        names = names or [f"system{s}" for s in range(state.n_systems)]
        if len(set(names)) != state.n_systems:
            raise ValueError(f"{state.n_systems} systems need as many different names, got {names}")
        self._require_plausible()
        require_counts(0, steps=steps)
        if self.output is None:
            return self._simulate(self.begun(state), steps, state, FrameStore(names, self.every))
        # Another that has just begun has no steps yet, and would be taken for one that never did.
        with sole_writer(self.output, "wait until it ends, or choose another output"):
            return self._recorded(self.output, state, steps, names, resume)

    def _recorded(
        self, output: Path, state: State, steps: int, names: Sequence[str], resume: bool
    ) -> RolloutResult:
        if output.exists() and not resume:
            raise FileExistsError(f"{output} exists: resume it, move it or remove it")
        checkpoint = Checkpoint(
            output.with_name(output.name + ".checkpoint.npz"),
            self._identity(state, names),
            self.checkpoint_seconds,
        )
        snapshot, written = Snapshot.beginning(state, self.propagator), [0] * state.n_systems
        if output.exists():
            snapshot, written = checkpoint.load(snapshot)
        started = snapshot.step > 0
        if not started:
            output.unlink(missing_ok=True)
            snapshot, written = self.begun(state), [0] * state.n_systems
            # Before the file, so that a file without a checkpoint is never one of ours.
            checkpoint.save(snapshot, written)
        kind, fingerprint = self.propagator.origin
        parameters = self.propagator.parameters | {
            "simulator": kind,
            "simulator_fingerprint": fingerprint,
        }
        with H5MDWriter(
            output, units=self.propagator.units, parameters=parameters, resume=started
        ) as writer:
            for name, count in zip(names, written, strict=True):
                if writer.n_frames(name) < count:
                    raise ValueError(
                        f"{output} holds {writer.n_frames(name)} frames of {name!r}, but its "
                        f"checkpoint knows {count}: the file was changed. Start another output"
                    )
            frames = FrameStore(names, self.every, writer, checkpoint)
            return self._simulate(snapshot, steps, state, frames)

    def _simulate(
        self, snapshot: Snapshot, steps: int, start: State, frames: FrameStore
    ) -> RolloutResult:
        if snapshot.step == 0:
            frames.add(snapshot)
        # Makes all groups of a new file, and cuts a resumed one to what the checkpoint knows.
        frames.save(snapshot)
        snapshot = self.advanced(snapshot, steps, start, frames)
        frames.save(snapshot)
        done = snapshot.merged()
        if snapshot.evaluation is not None:
            done.whole.energy, done.whole.forces = done.energy, done.forces
        return RolloutResult(done.whole, done.steps, done.reasons, frames.trajectories)

    def advanced(self, snapshot: Snapshot, steps: int, start: State, frames: Frames) -> Snapshot:
        """Where the running systems are once `steps` steps are done, those before included.

        Args:
            snapshot: From `begun`, or of an earlier leg.
            start: Where every system started.
        """
        guard = self.guard or Trust(start, self.propagator)
        bar = Bar(total=steps, initial=snapshot.step, unit="step", delay=2.0, disable=not self.bar)
        try:
            while snapshot.step < steps and snapshot.running:
                at_frame = (snapshot.step + 1) % self.every == 0
                try:
                    state, evaluation = snapshot.propagator.advance(
                        snapshot.state, snapshot.evaluation, snapshot.step
                    )
                    after = replace(
                        snapshot, step=snapshot.step + 1, state=state, evaluation=evaluation
                    )
                    stopped = guard.stopped(snapshot, after, at_frame)
                    if self.watch is not None and at_frame:
                        stopped = (
                            self.watch.ended(after.running, after.state, evaluation, after.step)
                            | stopped
                        )
                except SimulatorError as error:
                    stopped = {error.system: str(error)}
                if stopped:
                    # Strides are pure functions: the others take this one again by themselves.
                    snapshot = snapshot.without(stopped, self.propagator)
                    lost = len(snapshot.reasons) - len(snapshot.running)
                    bar.set_postfix_str(f"{lost} stopped", refresh=False)
                    continue
                if at_frame:
                    frames.add(after)
                snapshot = after
                bar.update()
                frames.save_if_due(snapshot)
        except KeyboardInterrupt:
            frames.save(snapshot)
            raise
        finally:
            bar.close()
        return snapshot

    def begun(self, state: State) -> Snapshot:
        """Every system evaluated at step 0, except where that fails.

        Raises:
            ValueError: If the propagator's temperature or stride cannot be.
        """
        self._require_plausible()
        snapshot = Snapshot.beginning(state, self.propagator)
        while snapshot.running:
            if odd := implausible_systems(snapshot.state, self.propagator.units):
                snapshot = snapshot.without(odd, self.propagator)
                continue
            try:
                evaluation = snapshot.propagator.start(snapshot.state)
            except SimulatorError as error:
                snapshot = snapshot.without({error.system: str(error)}, self.propagator)
                continue
            snapshot = replace(snapshot, evaluation=evaluation)
            break
        snapshot = snapshot.merged()
        kinetic = kinetic_energy(snapshot.whole, self.propagator.units)
        snapshot = replace(snapshot, start_energy=snapshot.energy + kinetic)
        stopped = systems_outside(snapshot) if snapshot.running and self.guard is None else {}
        if snapshot.evaluation is not None:
            for k, s in enumerate(snapshot.running):
                finite = snapshot.start_energy[s].isfinite()
                if not bool(finite & snapshot.forces[state.batch == s].isfinite().all()):
                    stopped[k] = "its energy, forces or velocities are not finite where it starts"
        return snapshot.without(stopped, self.propagator) if stopped else snapshot

    def _require_plausible(self) -> None:
        units, held = self.propagator.units, self.propagator.temperature
        require_plausible("time step", self.propagator.stride, units)
        if held is not None:
            require_plausible("temperature", torch.as_tensor(held).cpu().numpy(), units)

    def _identity(self, state: State, names: Sequence[str]) -> str:
        """A digest of everything that must be the same for a run to be continued."""
        digest = hashlib.sha256()
        for key in ("numbers", "positions", "velocities", "masses", "charges", "cell", "batch"):
            digest.update(state[key].detach().cpu().numpy().tobytes())
        for key in ("total_charge", "unpaired", "stream"):
            if key in state:
                digest.update(state[key].detach().cpu().numpy().tobytes())
        parts = [list(names), self.every, self.propagator.parameters, self.propagator.origin[1]]
        digest.update(json.dumps(parts).encode())
        return digest.hexdigest()
