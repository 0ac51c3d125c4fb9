-- The anomalies of an hour are the episodes that began in it and were not retracted.
with episodes as (
    select date_trunc('hour', started_at) as hour, service, count(*) as anomaly_count
    from {{ ref('stg_anomalies') }}
    where status <> 'retracted' and service <> '__stream__'
    group by 1, 2
)

select hour, service, episodes.anomaly_count as expected, hours.anomaly_count as found
from episodes
full join (select * from {{ ref('stg_hourly') }} where anomaly_count > 0) as hours using (hour, service)
where episodes.anomaly_count is distinct from hours.anomaly_count
