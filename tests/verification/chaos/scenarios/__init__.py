"""Every scenario by its name."""

from chaos.scenario import Scenario
from chaos.scenarios import (
    chains,
    checkpoints,
    clock,
    commit_launch,
    connections,
    database,
    limits,
    processes,
    purge,
    refusals,
    refused_and_locked,
    revisions,
    streams,
    webhooks,
)

_MODULES = (
    processes,
    limits,
    chains,
    checkpoints,
    streams,
    commit_launch,
    database,
    connections,
    refusals,
    refused_and_locked,
    revisions,
    purge,
    clock,
    webhooks,
)

SCENARIOS: dict[str, Scenario] = {each.name: each for module in _MODULES for each in module.SCENARIOS}
