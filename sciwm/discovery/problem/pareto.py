"""Trade-offs between several goals: fronts, and the volume they dominate. Larger is better."""

import numpy as np
from numpy.typing import NDArray

from sciwm.core.frame import Array


def non_dominated(scores: Array) -> NDArray[np.bool_]:
    """(N,) whether no other row is as good in every goal and better in one; equal rows all count.

    Args:
        scores: (N, G); rows with NaN are never in the front.
    """
    front: NDArray[np.bool_] = np.asarray(~np.isnan(scores).any(axis=1))
    for i in np.flatnonzero(front):
        if not front[i]:
            continue
        beaten = (scores <= scores[i]).all(axis=1) & (scores < scores[i]).any(axis=1)
        front = front & ~beaten
    return front


def dominators(scores: Array, others: Array | None = None) -> NDArray[np.int64]:
    """(N,) how many are better in one goal and worse in none.

    Args:
        scores: (N, G).
        others: (M, G) that may be better; the scores themselves where absent.
    """
    others = scores if others is None else others
    if scores.shape[1] == 1:
        column = np.sort(others[:, 0])
        return len(column) - np.searchsorted(column, scores[:, 0], side="right")
    return np.array(
        [((others >= row).all(axis=1) & (others > row).any(axis=1)).sum() for row in scores],
        dtype=np.int64,
    )


def hypervolume(scores: Array, reference: Array) -> float:
    """The area above `reference` that two goals dominate.

    Args:
        scores: (N, 2).
        reference: (2,).

    Raises:
        ValueError: If there are more or fewer than two goals.
    """
    if scores.shape[1] != 2:
        raise ValueError(f"hypervolume is for 2 goals, got {scores.shape[1]}")
    lower, upper = free_cells(scores, reference)
    corner = np.maximum(scores, reference).max(axis=0, initial=-np.inf)
    corner = np.maximum(corner, reference)
    free = np.clip(np.minimum(corner, upper) - lower, 0, None).prod(axis=1).sum()
    return float((corner - reference).prod() - free)


def reference_point(scores: Array) -> Array:
    """(G,) a tenth of the front's range below its worst (Ishibuchi et al. 2011).

    Args:
        scores: (N, G), at least one row without NaN.
    """
    front = scores[non_dominated(scores)]
    low, high = front.min(axis=0), front.max(axis=0)
    # A front of one point has no range; its own size is the only scale there is.
    scale = np.where(high > low, high - low, np.maximum(np.abs(low), 1e-9))
    return low - 0.1 * scale


def free_cells(scores: Array, reference: Array) -> tuple[Array, Array]:
    """Boxes that fill what lies above `reference` and no row of `scores` dominates.

    Args:
        scores: (N, G) with G at least 2.
        reference: (G,).

    Returns:
        Lower and upper corners, (C, G) each; upper ones may be infinite.

    Raises:
        ImportError: If there are more than two goals and BoTorch is not installed.
    """
    goals = len(reference)
    above = scores[(scores > reference).all(axis=1)] if len(scores) else np.zeros((0, goals))
    if goals > 2:
        return _many_goals(above, reference)
    front = above[non_dominated(above)]
    front = np.unique(front, axis=0)[::-1]  # falling in the first goal, so rising in the second
    edges = np.concatenate([[np.inf], front[:, 0], [reference[0]]])
    floors = np.concatenate([[reference[1]], front[:, 1]])
    lower = np.stack([edges[1:], floors], axis=1)
    upper = np.stack([edges[:-1], np.full(len(floors), np.inf)], axis=1)
    return lower, upper


def _many_goals(above: Array, reference: Array) -> tuple[Array, Array]:
    try:
        import torch
        from botorch.utils.multi_objective.box_decompositions.non_dominated import (
            FastNondominatedPartitioning,
        )
    except ImportError as error:
        raise ImportError(
            f"{len(reference)} goals need BoTorch: pip install 'sciwm[bo]', or weigh goals into "
            "one or two"
        ) from error
    partition = FastNondominatedPartitioning(
        ref_point=torch.as_tensor(reference, dtype=torch.float64),
        Y=torch.as_tensor(above, dtype=torch.float64),
    )
    lower, upper = partition.get_hypercell_bounds().numpy()
    return lower, upper
