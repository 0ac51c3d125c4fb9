-- Every hour that is complete and whose logs are all kept, counted anew. It reads all logs of these hours: leave it out of
-- frequent runs by `--exclude tag:slow`.
{{ config(tags=['slow']) }}

with bounds as (
    select
        (select date_trunc('hour', min(timestamp)) + interval '1 hour' from {{ source('smartlog', 'logs') }}) as first,
        (
            select date_trunc('hour', to_timestamp(min(watermark_us) / 1e6))
            from {{ source('smartlog', 'sink_positions') }}
            where watermark_us is not null
        ) as past_the_last
),

recount as (
    select
        date_trunc('hour', timestamp) as hour,
        service,
        count(*) as log_count,
        count(*) filter (where level in ('ERROR', 'FATAL')) as error_count
    from {{ source('smartlog', 'logs') }}, bounds
    where timestamp >= bounds.first and timestamp < bounds.past_the_last
    group by 1, 2
),

hours as (
    select stg.hour, stg.service, stg.log_count, stg.error_count
    from {{ ref('stg_hourly') }} as stg, bounds
    where stg.hour >= bounds.first and stg.hour < bounds.past_the_last and stg.log_count > 0
)

(select 'missing' as fault, * from recount except all select 'missing', * from hours)
union all
(select 'too much' as fault, * from hours except all select 'too much', * from recount)
