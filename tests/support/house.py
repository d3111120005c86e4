"""As `support.world` has it."""

from support.world import LEASE, desk_at, ended, node_at, reached, submitted

__all__ = ["LEASE", "desk_at", "ended", "node_at", "reached", "submitted"]
