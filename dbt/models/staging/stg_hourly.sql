select
    hour,
    (hour at time zone 'UTC')::date as date,
    service,
    log_count,
    error_count,
    anomaly_count
from {{ source('smartlog', 'hourly_metrics') }}
