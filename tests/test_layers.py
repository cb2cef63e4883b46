"""Imports point downwards only."""

import ast
from pathlib import Path

import pytest

import sciwm

LAYERS = ["core", "data", "models", "simulation", "evaluation", "training"]
LAYERS += ["learning", "discovery", "planning", "report"]
TOP = ["interfaces", "cli"]
ROOT = Path(sciwm.__file__).parent


def layer(module: str) -> int:
    name = module.split(".")[1] if "." in module else ""
    return LAYERS.index(name) if name in LAYERS else len(LAYERS) + (name in TOP)


def upward_imports(source: str, module: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found += [n for n in names if n.startswith("sciwm.") and layer(n) > layer(module)]
    return found


FILES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_its_own_layer_and_those_below(path):
    module = ".".join(["sciwm", *path.relative_to(ROOT).with_suffix("").parts])
    assert upward_imports(path.read_text(), module) == []


def test_the_check_catches_an_upward_import():
    assert upward_imports("from sciwm.training.fit import fit", "sciwm.core.state") != []


def test_no_folder_or_module_is_named_for_nothing():
    named = {part for path in FILES for part in path.relative_to(ROOT).with_suffix("").parts}
    assert not named & {"utils", "util", "helpers", "common", "misc", "tools"}


def shared_names(sources):
    """Public classes that two modules define, by name."""
    homes = {}
    for module, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    return {name: modules for name, modules in homes.items() if len(modules) > 1}


def test_no_two_classes_have_one_name():
    assert shared_names({str(path): path.read_text() for path in FILES}) == {}


def test_the_check_catches_a_shared_name():
    assert shared_names({"a": "class Row: ...", "b": "class Row: ..."}) == {"Row": ["a", "b"]}
