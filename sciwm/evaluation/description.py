"""A model file in words: what it is, what it was trained on, and how its check went."""

from typing import Any

import torch

from sciwm.evaluation.evaluate import species_name
from sciwm.models.archive import Archive, describe


def described(archive: Archive) -> str:
    """One fact a line."""
    model = archive.model
    units = model.units
    species = torch.nonzero(model.domain.seen)[:, 0].tolist()
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    lengths = ", ".join(filter(None, (units.length, units.energy, units.time, units.mass)))
    files = ", ".join(file["name"] for file in archive.data.get("files", []))
    frames = archive.data.get("frames")
    facts = {
        "model": f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} "
        f"parameters, {dtype}",
        "units": f"{units.name} ({lengths})" if lengths else units.name,
        "cutoff": f"{model.cutoff:g} {units.length}".rstrip(),
        "species": " ".join(species_name(number, units) for number in species) or "none seen yet",
        "trained on": f"{files}, {frames} frames" if files else "unknown data",
        "versions": ", ".join(f"{name} {version}" for name, version in archive.versions.items()),
        "check": _check(archive.check),
    }
    lines = [f"{name:12s}{fact}" for name, fact in facts.items()]
    lines.append("description")
    return "\n".join(lines + _arguments(describe(model), depth=1))


def _check(content: dict[str, Any]) -> str:
    if not content:
        return "not checked yet: `sciwm check`"
    checks = content.get("checks", [])
    parts = []
    for status in ("pass", "warn", "fail"):
        names = [check["name"] for check in checks if check["status"] == status]
        if names:
            which = "" if status == "pass" else f" ({', '.join(names)})"
            parts.append(f"{len(names)} {status}{which}")
    return f"{content['verdict']}: {', '.join(parts)}"


def _arguments(description: dict[str, Any], depth: int) -> list[str]:
    """Constructor arguments, those of parts below them."""
    lines = []
    for name, value in description["init_args"].items():
        indent = "  " * depth
        if isinstance(value, dict) and "class_path" in value:
            lines.append(f"{indent}{name}: {value['class_path']}")
            lines += _arguments(value, depth + 1)
        elif isinstance(value, list) and any(isinstance(part, dict) for part in value):
            lines.append(f"{indent}{name}:")
            for part in value:
                lines.append(f"{indent}- {part['class_path']}")
                lines += _arguments(part, depth + 1)
        else:
            lines.append(f"{indent}{name}: {value}")
    return lines
