//! Whether the Redis that is configured answers.

use super::Check;
use crate::commands::block_on;
use crate::config::Config;

/// Nothing without a Redis.
pub(super) fn checks(config: &Config) -> anyhow::Result<Vec<Check>> {
    let Some(redis) = config.redis.sink_config() else { return Ok(Vec::new()) };
    let asked = block_on(smartlog_sinks::probe_redis(&redis))?;
    Ok(vec![match asked {
        Ok(found) => Check::ok("redis", found),
        Err(fault) => Check::warning(
            "redis",
            fault.to_string(),
            "start it, or take redis.url out: all goes on without it, changes are told within 250 ms",
        ),
    }])
}
