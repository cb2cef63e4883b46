"""Density-functional theory by PySCF, in a worker process."""

import math
import os
from pathlib import Path
from typing import Any

from sciwm.simulation.references.workers import Reply, Request, WaveFunctions, serve

ENERGY_CHANGE = 1e-10
"""Hartree from one cycle to the next, below which a density is self-consistent."""

ORBITAL_GRADIENT = 1e-5
"""Hartree; forces then err by less than 1e-4 eV/Å."""

# Otherwise PySCF runs whatever .pyscf_conf.py it finds where the command was started.
os.environ["PYSCF_CONFIG_FILE"] = str(Path(__file__).with_name("pyscf_settings.py"))


class Refusal(Exception):
    """Settings or elements that the calculation cannot be made with."""


class DensityFunctional:
    """Restricted Kohn-Sham theory where all electrons are paired, unrestricted elsewhere."""

    def __init__(self) -> None:
        self._known = WaveFunctions()

    def answer(self, request: Request) -> Reply:
        """See `Engine`; settings are `functional`, `basis`, `dispersion` and `grid`."""
        from pyscf import dft

        density = self._known.take(request)
        try:
            molecule = _molecule(request)
            theory = (dft.UKS if request["unpaired"] else dft.RKS)(molecule)
            theory.xc, theory.disp = _functional(request["functional"]), request["dispersion"]
            theory.grids.level = request["grid"]
            theory.conv_tol, theory.conv_tol_grad = ENERGY_CHANGE, ORBITAL_GRADIENT
            theory.kernel(dm0=density)
            if not theory.converged:
                # Second order takes longer, and arrives where the first goes round in circles.
                theory = theory.newton()
                theory.kernel(dm0=theory.make_rdm1())
            if not theory.converged:
                return {"error": "the density is not converged", "converged": False}
            slope = theory.nuc_grad_method()
            # The grid moves with the nuclei, or forces would not be slopes of the energy.
            slope.grid_response = True
            gradient = slope.kernel()
        except (Refusal, NotImplementedError) as error:
            return {"error": str(error), "converged": True}
        density = theory.make_rdm1()
        self._known.keep(request, density)
        return {
            "energy": float(theory.e_tot),
            "gradient": gradient.tolist(),
            "dipole": theory.dip_moment(molecule, density, unit="AU", verbose=0).tolist(),
            "charges": theory.mulliken_pop(molecule, density, verbose=0)[1].tolist(),
            "gap": _gap(theory.mo_energy, theory.mo_occ),
        }


def _molecule(request: Request) -> Any:
    """The molecule in its basis, and with the core potentials that this comes with.

    Raises:
        Refusal: If the basis is unknown, or has nothing for an element.
    """
    from ase.data import chemical_symbols
    from pyscf import gto, lib
    from pyscf.lib.exceptions import BasisNotFoundError

    lib.num_threads(1)
    name = request["basis"]
    if Path(name).exists():
        raise Refusal(f"basis {name!r} is a file here, and only those that PySCF knows are taken")
    symbols = {chemical_symbols[number] for number in request["numbers"]}
    cores = {}
    for symbol in sorted(symbols):
        try:
            gto.basis.load(name, symbol)
        except (BasisNotFoundError, KeyError) as error:
            raise Refusal(f"there is no basis {name!r} for {symbol}; name another") from error
        try:
            cores[symbol] = gto.basis.load_ecp(name, symbol)
        except (BasisNotFoundError, KeyError):
            continue
    return gto.Mole().build(
        dump_input=False,
        parse_arg=False,
        verbose=0,
        atom=list(zip(request["numbers"], request["positions"], strict=True)),
        unit="Bohr",
        basis=name,
        ecp={symbol: core for symbol, core in cores.items() if core},
        charge=request["charge"],
        spin=request["unpaired"],
    )


def _functional(name: str) -> str:
    """The name, if it means a functional.

    Raises:
        Refusal: If it does not.
    """
    from pyscf.dft import libxc

    try:
        libxc.parse_xc(name)
    except (KeyError, ValueError, NotImplementedError) as error:
        raise Refusal(f"there is no functional {name!r} in PySCF: {error}") from error
    return name


def _gap(energies: Any, occupations: Any) -> float:
    """From the highest occupied to the lowest empty orbital of either spin."""
    empty = energies[occupations == 0]
    return float(empty.min() - energies[occupations > 0].max()) if empty.size else math.inf


if __name__ == "__main__":
    serve(DensityFunctional())
