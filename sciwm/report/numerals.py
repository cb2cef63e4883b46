"""Numbers as people read them in running text and tables."""

import math


def plain(value: float | None) -> str:
    """Three significant digits; a dash for what is not known."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == round(value) and abs(value) < 1e5:
        return f"{value:,.0f}"
    if not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit."""
    return f"{plain(value)} {unit}".rstrip()


def plus_minus(value: float, error: float) -> str:
    """A mean and its standard error, to the two digits of the error that mean anything."""
    if not 0 < error < math.inf:
        return plain(value)
    if error < 1e-4:
        return f"{value:.1e} ± {error:.0e}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"
