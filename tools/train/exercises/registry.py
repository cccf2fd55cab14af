"""All families, in a fixed order."""

from __future__ import annotations

# The imports fill the registry.
from exercises import (  # noqa: F401
    families_arithmetic,
    families_containers,
    families_grid,
    families_held_out,
    families_lists,
    families_lists_derived,
    families_sequences,
    families_strings,
)
from exercises.family import REGISTRY, Family

TRAINING_FAMILIES: tuple[Family, ...] = tuple(f for f in REGISTRY if not f.held_out)
HELD_OUT_FAMILIES: tuple[Family, ...] = tuple(f for f in REGISTRY if f.held_out)
