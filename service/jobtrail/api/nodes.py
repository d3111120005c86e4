"""The nodes, over HTTP."""

from dataclasses import dataclass

from starlette.responses import Response

from jobtrail.api import representation
from jobtrail.api.context import ApiContext
from jobtrail.ops.nodes import read_nodes
from jobtrail.records import shown


@dataclass(frozen=True)
class NodeRoutes:
    """/nodes."""

    context: ApiContext

    async def list_nodes(self) -> Response:
        """The processes that run jobs: since when, which tasks and queues, how full."""
        items = [shown(node) for node in await read_nodes(self.context.services)]
        return representation.answer({"items": items})
