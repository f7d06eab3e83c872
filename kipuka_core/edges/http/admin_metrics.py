"""``/admin/metrics``: the figures of the server for Prometheus."""

from __future__ import annotations

from quart import Blueprint, Response
from quart.typing import ResponseReturnValue

from kipuka_core.edges.metrics.page import MetricsPage


def metrics_routes(page: MetricsPage) -> Blueprint:
    """The page, for viewers and operators."""
    routes = Blueprint("kipuka_metrics", __name__)

    @routes.get("/admin/metrics")
    async def metrics() -> ResponseReturnValue:
        text, content_type = await page.text()
        return Response(text, content_type=content_type)

    return routes
