"""Whether the service works: for platforms, load balancers and uptime monitors."""

from datetime import UTC, datetime
from http import HTTPStatus

from fastapi import APIRouter, Response

from database import AppDatabase
from openapi import PROTOCOL_ERRORS, add_errors, example, operation_id
from schemas import HealthResponse, LivenessResponse

router = APIRouter(
    tags=["health"],
    generate_unique_id_function=operation_id,
    responses=add_errors({}, *PROTOCOL_ERRORS),
)

NO_TOKEN: dict[str, object] = {"security": []}
TIMESTAMP = "2026-01-09T10:00:00Z"
ALIVE = {"status": "alive"}
HEALTHY = {"status": "healthy", "database": "connected", "timestamp": TIMESTAMP}
UNHEALTHY = {"status": "unhealthy", "database": "disconnected", "timestamp": TIMESTAMP}


@router.get(
    "/livez",
    response_description="The service runs",
    responses={200: example(ALIVE)},
    openapi_extra=NO_TOKEN,
)
async def check_liveness() -> LivenessResponse:
    """Tell whether the service runs, whatever its database does.

    For platforms that ask every few seconds: asking `/health` so often would keep a serverless
    database awake. Needs no token.
    """
    return LivenessResponse(status="alive")


@router.get(
    "/health",
    response_description="The database answers",
    responses={
        200: example(HEALTHY),
        503: {
            "model": HealthResponse,
            "description": "The database does not answer",
            **example(UNHEALTHY),
        },
    },
    openapi_extra=NO_TOKEN,
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
