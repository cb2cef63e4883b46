"""The picture of error against compute, from what `bench_acac.py` and `bench_speed.py` wrote.

Left: error of forces on unseen acetylacetone at 300 K against the processor time that training took. Right:
the same error, after 480 seconds of training, against the time of one step of molecular dynamics. Both
logarithmic. A rival is a point where both benchmarks measured it, and a line at its speed where only that
was; MACE's published error after hours on a GPU is a line too.

    python scripts/plot_speed.py [--out speed.png]
"""

import json
from pathlib import Path

from jsonargparse import auto_cli
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

RESULTS = Path(__file__).parent / "results"
RUNS = {
    "sciwm medium": "acac.json",
    "sciwm small": "acac_small.json",
    "sciwm medium, GFN2-xTB first": "acac_long.json",
}
RIVALS = {
    "painn:64": "PaiNN 64",
    "mace:32L0": "MACE 32x0e",
    "nequip:3": "NequIP 3 layers",
    "nequip:S": "NequIP S",
}
PUBLISHED = 5.1
"""meV/Å, MACE after full training (arXiv:2206.07697, table of acetylacetone)."""


def main(out: str = "speed.png") -> None:
    """Draws.

    Args:
        out: The picture.
    """
    speed = json.loads((RESULTS / "speed.json").read_text())
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name, file in RUNS.items():
        found = json.loads((RESULTS / file).read_text())
        error = found["force_rmse_300K"]["value"]
        (line,) = left.plot([found["budget"]], [error], "o", label=name)
        if name in speed:
            step = speed[name]["md_step_ms"]["cpu"]
            right.plot([step], [error], "o", color=line.get_color(), label=name)
    rivals = json.loads((RESULTS / "acac.json").read_text())["rivals"]
    for key, found in rivals.items():
        if found:
            (line,) = left.plot([found["cpu_s"]], [found["F_rmse"]], "s", label=RIVALS[key])
            if RIVALS[key] in speed and "md_step_ms" in speed[RIVALS[key]]:
                step = speed[RIVALS[key]]["md_step_ms"]["cpu"]
                right.plot([step], [found["F_rmse"]], "s", color=line.get_color())
    trained = {RIVALS[key] for key, found in rivals.items() if found}
    for name, found in speed.items():
        if not name.startswith("sciwm") and name not in trained and "md_step_ms" in found:
            step = found["md_step_ms"]["cpu"]
            right.axvline(step, linestyle=":", color="grey")
            high = not name.startswith("GFN2")  # two of the lines all but coincide
            right.text(
                step,
                0.98 if high else 0.02,
                name + " ",
                rotation=90,
                fontsize=7,
                va="top" if high else "bottom",
                ha="right",
                transform=right.get_xaxis_transform(),
            )
    left.axhline(PUBLISHED, linestyle=":", color="grey")
    left.text(
        left.get_xlim()[0], PUBLISHED, " MACE, hours on a GPU (published)", va="bottom", fontsize=8
    )
    left.set_xlim(200, 3000)
    left.set_ylim(4, 40)
    left.set_xlabel("processor time of training / s")
    left.set_ylabel("error of forces / meV/Å")
    right.set_xlabel("one step of dynamics, 15 atoms / ms")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:.0e}"[0] in "235" else "")
        axes.tick_params(which="both", labelsize=7)
        axes.grid(alpha=0.3, which="both")
    left.legend(frameon=False, fontsize=8)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    auto_cli(main)
