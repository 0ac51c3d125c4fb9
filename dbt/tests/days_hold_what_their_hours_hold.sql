select days.date, days.service, days.total_logs, hours.log_count
from {{ ref('daily_service_metrics') }} as days
full join (
    select (hour at time zone 'UTC')::date as date, service, sum(log_count) as log_count
    from {{ ref('hourly_service_metrics') }}
    group by 1, 2
) as hours using (date, service)
where coalesce(days.total_logs, 0) <> coalesce(hours.log_count, 0)
