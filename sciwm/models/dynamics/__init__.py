"""Energies whose derivatives move particles, and what they are made of."""
