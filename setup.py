"""Job files and small data sets lie at the top of the repository and inside the installed package."""

from setuptools import find_packages, setup

INSIDE = {"sciwm.configs": "configs", "sciwm.datasets.ethanol_xtb": "datasets/ethanol_xtb"}
INSIDE["sciwm.datasets.charged_nbody"] = "datasets/charged_nbody"

setup(
    packages=[*find_packages(include=["sciwm*"]), *INSIDE],
    package_dir=INSIDE,
    package_data={"sciwm": ["py.typed", "worlds/*"]} | {name: ["*"] for name in INSIDE},
)
