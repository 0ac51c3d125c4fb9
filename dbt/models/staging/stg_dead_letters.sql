select
    (created_at at time zone 'UTC')::date as date,
    kafka_topic as topic,
    reason,
    count(*) as payloads,
    sum(octet_length(payload)) as bytes
from {{ source('smartlog', 'dead_letters') }}
group by 1, 2, 3
