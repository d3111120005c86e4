"""As `support.world` has it."""

from support.world import Place, create, migrated

__all__ = ["Place", "create", "migrated"]
