"""How plans are found."""

from sciwm.planning.planners.cross_entropy import CrossEntropy
from sciwm.planning.planners.gradient_ascent import GradientAscent
from sciwm.planning.planners.path_integral import PathIntegral
from sciwm.planning.planners.planner import Planner, Round
from sciwm.planning.planners.random_search import RandomSearch
from sciwm.planning.planners.tree import Tree

PLANNERS: dict[str, type[Planner]] = {
    kind.__name__: kind for kind in (CrossEntropy, GradientAscent, PathIntegral, RandomSearch, Tree)
}
"""By the name that a file calls them by."""

__all__ = [
    "PLANNERS",
    "CrossEntropy",
    "GradientAscent",
    "PathIntegral",
    "Planner",
    "RandomSearch",
    "Round",
    "Tree",
]
