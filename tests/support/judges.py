"""As `support.world` has it."""

from support.world import JUDGE, judge

__all__ = ["JUDGE", "judge"]
