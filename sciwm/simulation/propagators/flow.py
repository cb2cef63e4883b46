"""Long strides told from where they start."""

from collections.abc import Sequence

from sciwm.core.state import State
from sciwm.models.dynamics.flow_map import FlowMap
from sciwm.simulation.propagators.map_propagator import MapPropagator
from sciwm.simulation.simulator import Evaluation


class FlowPropagator(MapPropagator):
    """Strides of a `FlowMap`, told from where they start."""

    def advance(
        self, state: State, evaluation: Evaluation | None, index: int
    ) -> tuple[State, Evaluation | None]:
        seen = self._in_model_precision(state)
        stride = seen.positions.new_full((state.n_systems,), self.stride)
        stray, gain = self._changes(seen, stride)
        to = state.positions
        model = self.flow.model
        assert isinstance(model, FlowMap)
        moved = model.moved(state, stride.to(to), stray.to(to), gain.to(to))
        return state.moved(*moved), None

    def select(self, keep: Sequence[int]) -> "FlowPropagator":
        return FlowPropagator(self.flow, self.stride)

    @property
    def parameters(self) -> dict[str, str | float]:
        return {"integrator": "flow map", "dt": self.stride}
