"""Perception: particles and their surroundings become equivariant features."""
