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
from sciwm.simulation.propagators import Integrator
from sciwm.simulation.rollout.checkpoint import Checkpoint
from sciwm.simulation.rollout.events import Watch
from sciwm.simulation.rollout.progress import Progress
from sciwm.simulation.rollout.recorder import Recorder
from sciwm.simulation.rollout.stability import Soundness, implausible_systems
from sciwm.simulation.simulator import Simulator, SimulatorError
from sciwm.simulation.velocities import kinetic_energy


@dataclass(frozen=True, eq=False)
class RolloutResult:
    """How far each system came.

    Attributes:
        state: The last trusted state of every system, with its energy and forces.
        steps: Completed steps of each system.
        reasons: Why each system stopped early; None for those that did not.
        frames: The trajectory of each system; empty where it went to a file.
    """

    state: State
    steps: list[int]
    reasons: list[str | None]
    frames: list[list[Frame]]


class Rollout:
    """Runs an integrator over many systems.

    Args:
        output: An H5MD file with one group per system; without it frames stay in memory.
        every: Steps between frames. The simulator's domain is checked at each frame.
        watch: Ends systems at which something has happened; what it saw of the last frames before an
            interruption is forgotten.
        checkpoint_seconds: Wall time between checkpoints: what a kill can cost.
    """

    def __init__(
        self,
        simulator: Simulator,
        integrator: Integrator,
        output: Path | None = None,
        every: int = 1,
        checkpoint_seconds: float = 30.0,
        watch: Watch | None = None,
    ):
        if every < 1:
            raise ValueError(f"frames are one or more steps apart, got {every=}")
        self.simulator = simulator
        self.integrator = integrator
        self.output = Path(output) if output is not None else None
        self.every = every
        self.checkpoint_seconds = checkpoint_seconds
        self.watch = watch

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
            ValueError: If it is the output of another run, or the integrator's temperature or step
                cannot be.
        """
        names = names or [f"system{s}" for s in range(state.n_systems)]
        if len(set(names)) != state.n_systems:
            raise ValueError(f"{state.n_systems} systems need as many different names, got {names}")
        units, held = self.simulator.units, self.integrator.temperature
        require_plausible("time step", self.integrator.dt, units)
        if held is not None:
            require_plausible("temperature", torch.as_tensor(held).cpu().numpy(), units)
        require_counts(0, steps=steps)
        if self.output is None:
            return self._simulate(self._start(state), steps, state, Recorder(names, self.every))
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
        progress, written = Progress.beginning(state, self.integrator), [0] * state.n_systems
        if output.exists():
            progress, written = checkpoint.load(progress)
        started = progress.step > 0
        if not started:
            output.unlink(missing_ok=True)
            progress, written = self._start(state), [0] * state.n_systems
            # Before the file, so that a file without a checkpoint is never one of ours.
            checkpoint.save(progress, written)
        parameters = self.integrator.parameters | {
            "simulator": type(self.simulator).__name__,
            "simulator_fingerprint": self._fingerprint,
        }
        with H5MDWriter(
            output, units=self.simulator.units, parameters=parameters, resume=started
        ) as writer:
            for name, count in zip(names, written, strict=True):
                if writer.n_frames(name) < count:
                    raise ValueError(
                        f"{output} holds {writer.n_frames(name)} frames of {name!r}, but its "
                        f"checkpoint knows {count}: the file was changed. Start another output"
                    )
            recorder = Recorder(names, self.every, writer, checkpoint)
            return self._simulate(progress, steps, state, recorder)

    def _simulate(
        self, progress: Progress, steps: int, start: State, recorder: Recorder
    ) -> RolloutResult:
        soundness = Soundness(start, self.integrator, self.simulator.units)
        if progress.step == 0:
            recorder.add(progress)
        # Makes all groups of a new file, and cuts a resumed one to what the checkpoint knows.
        recorder.save(progress)
        bar = Bar(total=steps, initial=progress.step, unit="step", delay=2.0)
        try:
            while progress.step < steps and progress.running:
                stopped: dict[int, str] = {}
                try:
                    state, evaluation = progress.integrator.step(
                        self.simulator, progress.state, progress.evaluation, progress.step
                    )
                    after = replace(
                        progress, step=progress.step + 1, state=state, evaluation=evaluation
                    )
                    stopped = self._outside(after) if after.step % self.every == 0 else {}
                    stopped |= soundness.check(progress, after)
                    if self.watch is not None and after.step % self.every == 0:
                        seen = self.watch.ended(after.running, after.state, after.step)
                        stopped = seen | stopped
                except SimulatorError as error:
                    stopped = {error.system: str(error)}
                if stopped:
                    # Steps are pure functions: the others take this one again by themselves.
                    progress = progress.without(stopped, self.integrator)
                    lost = len(progress.reasons) - len(progress.running)
                    bar.set_postfix_str(f"{lost} stopped", refresh=False)
                    continue
                if after.step % self.every == 0:
                    recorder.add(after)
                progress = after
                bar.update()
                recorder.save_if_due(progress)
        except KeyboardInterrupt:
            recorder.save(progress)
            raise
        finally:
            bar.close()
        recorder.save(progress)
        done = progress.merged()
        done.whole.energy, done.whole.forces = done.energy, done.forces
        return RolloutResult(done.whole, done.steps, done.reasons, recorder.trajectories)

    def _start(self, state: State) -> Progress:
        """Every system evaluated at step 0, except where that fails."""
        progress = Progress.beginning(state, self.integrator)
        while progress.running:
            if odd := implausible_systems(progress.state, self.simulator.units):
                progress = progress.without(odd, self.integrator)
                continue
            try:
                evaluation = self.simulator.evaluate(progress.state)
            except SimulatorError as error:
                progress = progress.without({error.system: str(error)}, self.integrator)
                continue
            progress = replace(progress, evaluation=evaluation)
            break
        progress = progress.merged()
        kinetic = kinetic_energy(progress.whole, self.simulator.units)
        progress = replace(progress, start_energy=progress.energy + kinetic)
        stopped = self._outside(progress) if progress.running else {}
        for k, s in enumerate(progress.running):
            finite = progress.start_energy[s].isfinite()
            if not bool(finite & progress.forces[state.batch == s].isfinite().all()):
                stopped[k] = "its energy, forces or velocities are not finite where it starts"
        return progress.without(stopped, self.integrator) if stopped else progress

    def _outside(self, progress: Progress) -> dict[int, str]:
        if odd := implausible_systems(progress.state, self.simulator.units):
            return odd
        found = self.simulator.outside(progress.state, progress.evaluation)
        return {s: f"left the simulator's domain: {reason}" for s, reason in found.items()}

    @property
    def _fingerprint(self) -> str:
        """A digest of models, name and settings of references; empty for simulators that tell none."""
        return getattr(self.simulator, "fingerprint", "")

    def _identity(self, state: State, names: Sequence[str]) -> str:
        """A digest of everything that must be the same for a run to be continued."""
        digest = hashlib.sha256()
        for key in ("numbers", "positions", "velocities", "masses", "charges", "cell", "batch"):
            digest.update(state[key].detach().cpu().numpy().tobytes())
        parts = [list(names), self.every, self.integrator.parameters, self._fingerprint]
        digest.update(json.dumps(parts).encode())
        return digest.hexdigest()
