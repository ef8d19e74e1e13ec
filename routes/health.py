"""Whether the service works: for load balancers and uptime monitors."""

from datetime import UTC, datetime
from http import HTTPStatus

from fastapi import APIRouter, Response

from database import AppDatabase
from openapi import operation_id
from schemas import HealthResponse

router = APIRouter(tags=["health"], generate_unique_id_function=operation_id)

TIMESTAMP = "2026-01-09T10:00:00Z"
HEALTHY = {"status": "healthy", "database": "connected", "timestamp": TIMESTAMP}
UNHEALTHY = {"status": "unhealthy", "database": "disconnected", "timestamp": TIMESTAMP}


@router.head("/health", include_in_schema=False)
@router.get(
    "/health",
    response_description="The database answers",
    responses={
        HTTPStatus.OK: {"content": {"application/json": {"example": HEALTHY}}},
        HTTPStatus.SERVICE_UNAVAILABLE: {
            "model": HealthResponse,
            "description": "The database does not answer",
            "content": {"application/json": {"example": UNHEALTHY}},
        },
    },
)
async def check_health(database: AppDatabase, response: Response) -> HealthResponse:
    """Tell whether the API runs and its database is connected, within three seconds.

    Needs no token.
    """
    connected = await database.is_reachable()
    if not connected:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return HealthResponse(
        status="healthy" if connected else "unhealthy",
        database="connected" if connected else "disconnected",
        timestamp=datetime.now(UTC).replace(microsecond=0),
    )
