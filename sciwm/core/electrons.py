"""How many electrons a system has, and how many of them are without a partner of opposite spin."""

from collections.abc import Mapping
from typing import Any

from sciwm.core.frame import Frame

MULTIPLICITY_KEYS = ("spin", "multiplicity")
"""Under which other programs state 2S + 1, one more than the number of unpaired electrons.

Some state 2S as `spin`, which has the wrong parity as a multiplicity and is thereby told."""


def unpaired_electrons(frame: Frame) -> int:
    """Those that the frame states, or else as few as the number of electrons allows.

    Raises:
        ValueError: If the total charge is no integer, or there cannot be so many.
    """
    charge = round(frame.total_charge)
    if abs(frame.total_charge - charge) > 1e-6:
        raise ValueError(f"the total charge must be an integer, got {frame.total_charge}")
    electrons = int(frame.numbers.sum()) - charge
    if electrons < 0:
        raise ValueError(
            f"a total charge of {charge:+d} takes more electrons than the {frame.numbers.sum()} there are"
        )
    if frame.unpaired is None:
        return electrons % 2
    if not 0 <= frame.unpaired <= electrons or (electrons - frame.unpaired) % 2:
        usual = "an even" if electrons % 2 == 0 else "an odd"
        raise ValueError(
            f"{frame.unpaired} of {electrons} electrons cannot be unpaired, only {usual} number of them; "
            "check the total charge, and that a spin in ASE's info is the multiplicity 2S + 1"
        )
    return frame.unpaired


def ionised(frame: Frame, charge: int) -> Frame:
    """The same structure with one charge added, +1 or -1.

    Where the spin is stated, the electron that goes was unpaired, or the one that comes finds a
    partner; where all are paired, one is left alone.
    """
    assert abs(charge) == 1
    spin = None if frame.unpaired is None else abs(frame.unpaired - 1)
    return frame.with_(total_charge=frame.total_charge + charge, unpaired=spin)


def unpaired_stated(info: Mapping[str, Any]) -> int | None:
    """What a frame's notes in another program's words say; None where they say nothing, or 0.

    Raises:
        ValueError: If they are no multiplicity, or contradict each other.
    """
    given = {key: info[key] for key in MULTIPLICITY_KEYS if key in info}
    found = set()
    for key, value in given.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if not (number >= 0 and number.is_integer()):
            raise ValueError(f"{key}={value!r} is no multiplicity; write 2S + 1, such as 1 or 2")
        if number > 0:
            found.add(int(number) - 1)
    if len(found) > 1:
        raise ValueError(f"{given} contradict each other; state the multiplicity 2S + 1 once")
    return found.pop() if found else None
