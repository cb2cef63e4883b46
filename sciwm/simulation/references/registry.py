"""References by name, by class path, and with arguments: the one place that knows which there are."""

from typing import Any

import yaml

from sciwm.core.construction import Description, construct
from sciwm.core.yaml_text import require_bounded
from sciwm.simulation.references.reference import Reference

REFERENCES: dict[str, Description] = {
    "gfn2": {"class_path": "sciwm.simulation.references.xtb.GFN2"},
    "gfn1": {"class_path": "sciwm.simulation.references.xtb.GFN1"},
    "dft": {"class_path": "sciwm.simulation.references.dft.DFT"},
    "emt": {
        "class_path": "sciwm.simulation.references.ase_potentials.ASEReference",
        "init_args": {"calculator": "ase.calculators.emt.EMT"},
    },
}
"""What each name stands for."""


def names_reference(text: str) -> bool:
    """Whether the words of a command or file mean a reference, sound or not, and no trained model."""
    return text in REFERENCES or text.startswith(("{", "sciwm."))


def references_known() -> str:
    """The names, in a sentence's part."""
    return f"references are {', '.join(REFERENCES)}, or the class path of another"


def described(reference: str | Description) -> Description:
    """The class path and arguments that a reference is written down with.

    Args:
        reference: A name, a class path, or a description whose class path may be a name; as YAML or
            JSON where it is text, such as "{class_path: gfn2, init_args: {solvent: water}}".

    Raises:
        ValueError: If it is none of these.
    """
    content: Any = reference
    if isinstance(reference, str):
        content = {"class_path": reference}
        if reference.startswith("{"):
            try:
                require_bounded(reference)
                content = yaml.safe_load(reference)
            except yaml.YAMLError as error:
                raise ValueError(f"{reference!r} is not YAML that can be read: {error}") from error
    path = str(content.get("class_path", ""))
    if path in REFERENCES:
        known = REFERENCES[path]
        arguments = content.get("init_args", {})
        if isinstance(arguments, dict) and (merged := known.get("init_args", {}) | arguments):
            return content | known | {"init_args": merged}
        return content | known
    if "." not in path:
        raise ValueError(f"there is no reference {path!r}; {references_known()}")
    return content


def reference_from(reference: str | Description) -> Reference:
    """The simulator that a name or a description means; see `described`.

    Raises:
        ValueError: If there is none, or it cannot be built from its arguments.
        ImportError: If the program that it needs is not installed.
    """
    found: Reference = construct(described(reference), Reference)
    return found
