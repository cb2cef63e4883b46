"""How far two configurations of the same particles lie apart."""

import numpy as np

from sciwm.core.frame import Array


def separation(first: Array, second: Array, superpose: bool) -> Array:
    """(T,) root mean square distance of particles, in pairs of configurations (T, N, 3).

    Args:
        superpose: Take away the difference in place and orientation first (Kabsch 1976), which
            for a molecule in free space means nothing.
    """
    if not superpose:
        return np.sqrt(((first - second) ** 2).sum(axis=-1).mean(axis=-1))
    p = first - first.mean(axis=1, keepdims=True)
    q = second - second.mean(axis=1, keepdims=True)
    u, singular, v = np.linalg.svd(np.einsum("tna,tnb->tab", q, p))
    # A reflection would fit mirror images, which are different molecules.
    singular[:, 2] *= np.sign(np.linalg.det(u @ v))
    squared = (p**2).sum(axis=(1, 2)) + (q**2).sum(axis=(1, 2)) - 2 * singular.sum(axis=1)
    return np.sqrt(np.maximum(squared, 0.0) / p.shape[1])
