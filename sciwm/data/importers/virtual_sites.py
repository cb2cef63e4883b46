"""Sites without an atom, such as the M of TIP4P water, do not enter a frame.

They carry charge but no mass, and their positions follow from those of atoms, so that forces on
them say nothing of a potential energy surface.
"""

import re

import numpy as np

from sciwm.core.frame import Frame
from sciwm.core.properties import PROPERTIES
from sciwm.data.importers.remarks import Remarks

NO_ELEMENT = 0
"""Atomic number of a virtual site; ASE's X as well."""

_NAMES = re.compile(r"(MW|EPW?|LPW?|M|DUMMY|X)\d*", re.IGNORECASE)


def is_virtual_name(name: str) -> bool:
    """Whether force fields call virtual sites so: TIP4P's MW, AMBER's EP, lone pairs LP."""
    return _NAMES.fullmatch(name.strip()) is not None


def without_virtual_sites(frame: Frame, remarks: Remarks) -> Frame:
    """The frame without its sites of no element and no mass, which are counted."""
    n, masses = len(frame), frame.masses
    if np.shape(frame.numbers) != (n,) or np.shape(frame.positions) != (n, 3):
        return frame  # whoever judges the frame says so
    if masses is not None and np.shape(masses) != (n,):
        return frame
    unknown = (frame.numbers < 1) | (frame.numbers > 118)
    virtual = unknown & (frame.numbers == NO_ELEMENT if masses is None else masses == 0)
    if not virtual.any() or virtual.all():
        return frame
    remarks.leave_out("virtual sites, in all frames together", int(virtual.sum()))
    changes: dict[str, object] = {}
    for name in ("numbers", "positions", "velocities", "forces", "masses", "images", "charges"):
        values = getattr(frame, name)
        if values is not None and len(values) == n:
            changes[name] = values[~virtual]
    if frame.charges is not None and frame.charges[virtual].any():
        changes["charges"] = None
        remarks.say("charges are left out, since virtual sites carry some of them")
    changes["properties"] = {
        name: np.asarray(value)[~virtual] if PROPERTIES[name].per_atom else value
        for name, value in frame.properties.items()
    }
    return frame.with_(**changes)
