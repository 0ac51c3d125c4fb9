with services as (
    select
        date,
        service,
        sum(log_count)::bigint as total_logs,
        sum(error_count)::bigint as error_count,
        sum(anomaly_count)::bigint as anomaly_count
    from {{ ref('stg_hourly') }}
    group by date, service
),

whole_stream as (
    select date, service, 0::bigint as total_logs, 0::bigint as error_count, count(*) as anomaly_count
    from {{ ref('stg_anomalies') }}
    where service = '__stream__' and status <> 'retracted'
    group by date, service
),

days as (
    select * from services
    union all
    select * from whole_stream
)

select
    date,
    service,
    total_logs,
    error_count,
    anomaly_count,
    error_count::numeric / nullif(total_logs, 0) as error_rate,
    now() as processed_at
from days
