"""The outcome model: a force field, and heads that read outcomes from the same features."""

from collections.abc import Sequence

from torch import Tensor, nn

from sciwm.core.neighbours import NeighbourTable
from sciwm.core.state import State
from sciwm.models.dynamics.force_field import ForceField
from sciwm.models.dynamics.potential import DerivedPotential, Potential
from sciwm.models.geometry import Geometry
from sciwm.models.heads.head import Head
from sciwm.models.statistics import Statistics


class OutcomeModel(DerivedPotential):
    """Moves a system as its force field does, and tells what else is so of it.

    Args:
        force_field: Gives energies and forces; its encoder is shared.
        heads: One for each property.
    """

    def __init__(self, force_field: ForceField, heads: Sequence[Head]):
        super().__init__()
        names = [head.name for head in heads]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"an outcome model needs heads for different properties, got {names or 'none'}; "
                "for energies and forces alone use the force field"
            )
        self.force_field = force_field
        self.heads = nn.ModuleList(heads)
        for head in heads:
            head.connect(force_field.encoder)
        self.cutoff = force_field.cutoff
        self.unit_system = force_field.unit_system

    @property
    def base(self) -> ForceField:
        return self.force_field

    @property
    def properties(self) -> tuple[str, ...]:
        """Names of what the heads predict."""
        return tuple(str(head.name) for head in self.heads)

    def adapt(self, statistics: Statistics) -> None:
        """As every potential.

        Raises:
            ValueError: If the training data has no labels for a head.
        """
        missing = set(self.properties) - statistics.labels.keys()
        if missing:
            raise ValueError(
                f"the training data has no {', '.join(sorted(missing))} for the heads to learn; it has "
                f"{', '.join(statistics.labels) or 'no properties'}"
            )
        self.force_field.adapt(statistics)
        for head in self.heads:
            assert isinstance(head, Head)
            head.adapt(statistics.labels[head.name])

    def observe(self, state: State, table: NeighbourTable) -> dict[str, Tensor]:
        """By name, (S, *shape), or (A, *shape) for what every atom has, in the units of `PROPERTIES`.

        Differentiable by the weights where gradients are enabled.
        """
        vectors = table.vectors(state.positions, state.cell, state.batch)
        geometry = Geometry.of(state, table, vectors, self.beyond)
        features = self.force_field.encoder.tensors(geometry, self.force_field.presence(geometry))
        return {str(head.name): head(features, state) for head in self.heads}

    def start_from(self, other: Potential) -> None:
        """Takes over the weights and scales of a trained force field, and of heads they share.

        Raises:
            ValueError: If the force fields are built differently.
        """
        source = other.force_field if isinstance(other, OutcomeModel) else other
        self.force_field.start_from(source)
        if isinstance(other, OutcomeModel):
            known = {head.name: head for head in other.heads}
            for head in self.heads:
                found = known.get(head.name)
                if type(found) is type(head):
                    assert found is not None
                    head.load_state_dict(found.state_dict())
