"""`sciwm import`: bring data into H5MD."""


def import_(
    source: str,
    *,
    to: str,
    units: str | None = None,
    topology: str | None = None,
    elements: str | None = None,
    timestep: float | None = None,
    energy_key: str | None = None,
    forces_key: str | None = None,
    properties: dict[str, str] | None = None,
    skip_bad: bool = False,
    overwrite: bool = False,
) -> int:
    """Converts a data set or trajectory to H5MD and shows what it holds.

    The new file states its units, which other programs read too: Å, ps, kJ/mol and their quotients,
    u and e, but eV for further properties such as gaps. sciwm reads and shows them as Å, fs and eV.
    Reduced units stay as they are, without any unit. Every frame keeps its number in the source.

    The format is recognised by content: extended XYZ, LAMMPS dumps, MD17 and other .npz archives,
    DeePMD folders, GRO, XTC, TRR, DCD, AMBER NetCDF, MDTraj, TorchSim, LagrangeBench, SPICE, ANI, QM7-X,
    TorchMD-Net and H5MD files, and whatever ASE reads.

    Args:
        source: The file or folder to read.
        to: The H5MD file to write, by convention .h5md.
        units: Units of the source where it does not say: a LAMMPS style (metal, real, lj), an
            energy unit that holds for forces too (meV, kcal/mol), or a list such as
            energy=hartree,force=hartree/bohr.
        topology: A file that names the atoms (PDB, GRO, PSF), for formats that do not. An option
            that the format has no use for is refused.
        elements: One element per particle type (Na,Cl), or a formula in the order of the
            atoms ("(OHH)64").
        timestep: Time of one step in fs, or in reduced units; says that frames follow one another.
        energy_key: Name of the energies to read; comment where each comment line of an XYZ file
            is a bare number.
        forces_key: Name of the forces to read.
        properties: Further labels of extended XYZ files, as {"dipole": "REF_dipole"}: the property
            and its name in the file.
        skip_bad: Leave out frames that are broken or lack a label, and count them.
        overwrite: Replace a file that stands at `to`, once the new one is complete.
    """
    from pathlib import Path

    from sciwm.data.importers.convert import convert
    from sciwm.data.importers.source import ImportOptions

    options = ImportOptions(
        units=units,
        topology=None if topology is None else Path(topology),
        elements=elements,
        timestep=timestep,
        energy_key=energy_key,
        forces_key=forces_key,
        properties=properties or {},
        skip_bad=skip_bad,
    )
    print(convert(source, to, options, overwrite=overwrite))
    return 0
