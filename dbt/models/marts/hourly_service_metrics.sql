select
    now.hour,
    now.service,
    now.log_count,
    now.error_count,
    now.anomaly_count,
    now.error_count::numeric / nullif(now.log_count, 0) as error_rate,
    before.usual_log_count,
    now.log_count / nullif(before.usual_log_count, 0) as log_count_ratio
from {{ ref('stg_hourly') }} as now
left join lateral (
    select percentile_cont(0.5) within group (order by past.log_count) as usual_log_count
    from {{ ref('stg_hourly') }} as past
    where
        past.service = now.service
        and past.hour in (select now.hour - day * interval '1 day' from generate_series(1, 14) as day)
) as before on true
