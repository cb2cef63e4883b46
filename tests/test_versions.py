"""The versions that are allowed, the oldest that are tested, and the newest."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]

LINTERS = {"mypy", "ruff"}  # are run with the newest versions only


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    found = [re.fullmatch(r"([\w.-]+)==(\S+)", line) for line in lines]
    return {one[1].lower().replace("_", "-"): one[2] for one in found if one}


def allowed() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    every = [Requirement(one) for group in groups for one in group]
    return {one.name.lower().replace("_", "-"): one for one in every if one.name != "sciwm"}


def least(requirement: Requirement) -> Version:
    (found,) = [one.version for one in requirement.specifier if one.operator == ">="]
    return Version(found)


def test_the_oldest_versions_are_those_that_are_allowed():
    oldest = pins("constraints-lowest.txt")
    wanted = {name: one for name, one in allowed().items() if name not in LINTERS}
    assert oldest.keys() == wanted.keys()
    for name, requirement in wanted.items():
        release = least(requirement).release
        there = Version(oldest[name])
        assert there in requirement.specifier, name
        assert there.release[: len(release)] == release, f"{name} {there} is not the oldest"


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-lowest.txt"])
def test_tested_versions_are_allowed(name):
    known = allowed()
    for package, version in pins(name).items():
        if package in known:
            assert Version(version) in known[package].specifier, package
