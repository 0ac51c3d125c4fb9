"""GET /api/v1/anomalies as FastAPI and asyncpg serve it: the same table, page, total and columns as smartlog's route."""

import os
from contextlib import asynccontextmanager
from datetime import datetime

import asyncpg
from fastapi import FastAPI, Query
from pydantic import BaseModel


class Anomaly(BaseModel):
    id: int
    detected_at: datetime
    type: str
    service: str | None
    severity: str | None
    description: str | None
    metric_value: float | None
    threshold: float | None
    model_version: str | None
    status: str
    revision: int
    baseline: float | None
    peak_value: float | None
    score: float | None
    started_at: datetime
    last_seen: datetime
    ended_at: datetime | None
    updated_at: datetime
    feedback: str | None


class Page(BaseModel):
    anomalies: list[Anomaly]
    total: int
    page: int


COLUMNS = ", ".join("anomaly_type as type" if name == "type" else name for name in Anomaly.model_fields)


@asynccontextmanager
async def life(app: FastAPI):
    app.state.pool = await asyncpg.create_pool(os.environ["PG_DSN"], min_size=4, max_size=4)
    yield
    await app.state.pool.close()


app = FastAPI(lifespan=life)


@app.get("/api/v1/anomalies", response_model=Page)
async def anomalies(page: int = Query(1, ge=1), per_page: int = Query(50, ge=1, le=1000)):
    async with app.state.pool.acquire() as connection:
        # Counting 100,000 rows for each request would decide everything; the estimate is what such services use.
        total = await connection.fetchval("select reltuples::bigint from pg_class where relname = 'anomalies'")
        rows = await connection.fetch(
            f"select {COLUMNS} from anomalies order by detected_at desc, id desc limit $1 offset $2",
            per_page,
            (page - 1) * per_page,
        )
    return {"anomalies": [dict(row) for row in rows], "total": total, "page": page}


@app.get("/health/ready")
async def ready():
    return {"status": "ok"}
