"""Hostile input for every way into the package, each case in a process that may die."""

import os

# A process that has threads cannot be forked: before any of these is loaded.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"
