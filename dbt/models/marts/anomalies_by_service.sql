select
    service,
    anomaly_type,
    severity,
    count(*) filter (where status <> 'retracted') as episodes,
    count(*) filter (where status in ('provisional', 'open')) as open_now,
    count(*) filter (where status = 'retracted') as retracted,
    count(*) filter (where feedback = 'confirmed') as said_confirmed,
    count(*) filter (where feedback = 'expected') as said_expected,
    percentile_cont(0.5) within group (order by duration) as median_duration,
    percentile_cont(0.5) within group (order by detected_after) as median_detected_after,
    max(peak_value / nullif(baseline, 0)) as worst_ratio,
    min(started_at) as first_started_at,
    max(started_at) as last_started_at
from {{ ref('stg_anomalies') }}
group by service, anomaly_type, severity
