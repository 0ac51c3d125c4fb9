select
    id as anomaly_id,
    coalesce(service, '__stream__') as service,
    anomaly_type,
    severity,
    status,
    feedback,
    model_version,
    started_at,
    (started_at at time zone 'UTC')::date as date,
    ended_at,
    ended_at - started_at as duration,
    detected_at - started_at as detected_after,
    baseline,
    threshold,
    peak_value
from {{ source('smartlog', 'anomalies') }}
