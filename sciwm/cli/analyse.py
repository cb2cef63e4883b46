"""`sciwm analyse`: what a trajectory shows, with error bars."""


def analyse(trajectory: str, *, out: str | None = None) -> int:
    """Temperatures, energies, density, diffusion, bonds, pair distances and spectra of a trajectory.

    Any H5MD file will do, also another program's; `sciwm import` makes one of other formats.

    Args:
        trajectory: An H5MD file.
        out: The page with curves and a film; beside the trajectory, ending in .html, where absent.
    """
    from pathlib import Path

    from sciwm.report import trajectory as measured

    path = Path(trajectory)
    found = measured.analyse(path)
    for one in found:
        span = (len(one.motion) - 1) * (one.motion.timestep or 0.0)
        time = f", {span:g} {one.motion.units.time}".rstrip() if span else ""
        print(f"{one.name}: {len(one.motion)} frames{time}")
        for number in one.numbers:
            print(f"  {number}")
        for reason in one.missing:
            print(f"  not measured: {reason}")
    target = path.with_suffix(".html") if out is None else Path(out)
    measured.write_page(path, found, target)
    print(f"written: {target}")
    return 0
