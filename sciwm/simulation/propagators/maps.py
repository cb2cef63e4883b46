"""What takes the strides of a kind of map."""

from sciwm.models.dynamics.generating_map import GeneratingMap
from sciwm.models.programs.stride_program import CompiledStrideMap
from sciwm.simulation.propagators.flow import FlowPropagator
from sciwm.simulation.propagators.map_propagator import MapPropagator
from sciwm.simulation.propagators.midpoint import MidpointPropagator


def strides_by(flow: CompiledStrideMap, stride: float) -> MapPropagator:
    """Strides of a map, of that length in its time.

    Raises:
        ValueError: If such a stride was never trained.
    """
    if isinstance(flow.model, GeneratingMap):
        return MidpointPropagator(flow, stride)
    return FlowPropagator(flow, stride)
