"""How large encoders may be."""

FARTHEST = 1e12
"""No particle sees farther; numbers far beyond overflow single precision."""

LARGEST = {
    "lmax": 11,  # to which e3nn has coupling coefficients
    "layers": 100,
    "channels": 10_000,
    "basis_size": 1_000,
    "waves": 100,
}


def require_sizes(cutoff: float, **given: int) -> None:
    """Raises ValueError unless an encoder can be built of such sizes."""
    for name, value in given.items():
        if not 1 <= value <= LARGEST[name]:
            raise ValueError(f"{name} must lie in 1..{LARGEST[name]}, got {value}")
    if cutoff > FARTHEST:
        raise ValueError(f"cutoff must be at most {FARTHEST:g}, got {cutoff}")
