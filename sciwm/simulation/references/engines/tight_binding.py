"""Extended tight binding by tblite, in a worker process."""

import math
from typing import Any

from sciwm.simulation.references.workers import Reply, Request, WaveFunctions, serve


class TightBinding:
    """Each system keeps its calculator and last wave function."""

    def __init__(self) -> None:
        self._known = WaveFunctions()

    def answer(self, request: Request) -> Reply:
        """See `Engine`; settings are `method`, `accuracy`, `electronic_temperature` and `solvent`, and
        perhaps an electric `field`, of Hartree per Bohr and charge.

        Where a system repeats, `lattice` and `periodic` say how.
        """
        import numpy as np
        from tblite.exceptions import TBLiteRuntimeError, TBLiteValueError
        from tblite.interface import Calculator
        from tblite.library import ffi

        calculator, result = self._known.take(request) or (None, None)
        positions = np.array(request["positions"])
        lattice = np.array(request["lattice"]) if request["lattice"] else None
        try:
            if calculator is None:
                calculator = Calculator(
                    request["method"],
                    np.array(request["numbers"]),
                    positions,
                    float(request["charge"]),
                    request["unpaired"],
                    lattice,
                    np.array(request["periodic"]) if lattice is not None else None,
                )
                calculator.set("verbosity", 0)
                calculator.set("accuracy", request["accuracy"])
                calculator.set("temperature", request["electronic_temperature"])
                if request["solvent"] is not None:
                    calculator.add("alpb-solvation", request["solvent"])
                if request.get("field") is not None:
                    calculator.add("electric-field", ffi.new("double[]", request["field"]))
            else:
                calculator.update(positions, lattice)
            result = calculator.singlepoint(result)
            reply: dict[str, Any] = {
                name: np.asarray(result.get(name)).tolist()
                for name in ("energy", "gradient", "virial", "dipole", "charges")
            }
            energies, occupations = (
                result.get("orbital-energies"),
                result.get("orbital-occupations"),
            )
        except (TBLiteRuntimeError, TBLiteValueError) as error:
            return {"error": str(error).strip(), "converged": "not converged" not in str(error)}
        self._known.keep(request, (calculator, result))
        # From the highest occupied to the lowest empty orbital, whatever the smearing.
        occupied = (round(float(occupations.sum())) + request["unpaired"]) // 2
        empty = occupied < len(energies)
        reply["gap"] = float(energies[occupied] - energies[occupied - 1]) if empty else math.inf
        return reply


if __name__ == "__main__":
    serve(TightBinding())
