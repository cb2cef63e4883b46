"""What a step costs: time, and memory that grows with the number of atoms."""

from collections.abc import Sequence

import torch

from sciwm.core.state import State
from sciwm.evaluation.checks.check import Check
from sciwm.evaluation.timing import median_seconds
from sciwm.models.dynamics.potential import Potential
from sciwm.simulation.learned import LearnedSimulator

REPEATS = 9
"""Evaluations that are timed; the median counts."""


def cost_checks(model: Potential, systems: Sequence[State]) -> list[Check]:
    """Time per step and memory per atom of the largest system; reported, not judged.

    Args:
        model: As it is used.
        systems: One system each.
    """
    state = max(systems, key=lambda system: len(system.numbers))
    atoms = len(state.numbers)
    device = next(model.parameters()).device
    simulator = LearnedSimulator(model)
    seconds = median_seconds(lambda: simulator.evaluate(state), REPEATS, device)
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    # What the forward pass keeps for the forces is nearly all of the memory.
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        simulator.evaluate(state)
    kept = sum(size for place, size in saved.items() if place not in weights)
    threads = f"{torch.get_num_threads()} threads" if device.type == "cpu" else "the GPU"
    return [
        Check(
            "time per step",
            "pass",
            1e3 * seconds,
            "ms",
            float("inf"),
            f"one evaluation of {atoms} atoms on {threads}",
        ),
        Check(
            "memory per atom",
            "pass",
            kept / atoms / 1024,
            "KiB",
            float("inf"),
            f"kept between energy and forces, {atoms} atoms",
        ),
    ]
