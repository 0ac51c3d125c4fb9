//! Whether the search index that is configured answers.

use super::Check;
use crate::commands::block_on;
use crate::config::Config;
use smartlog_sinks::search::probe_search;

/// Nothing without a search index.
pub(super) fn checks(config: &Config) -> anyhow::Result<Vec<Check>> {
    let Some(search) = config.search_config() else { return Ok(Vec::new()) };
    Ok(vec![match block_on(probe_search(&search))? {
        Ok(found) => Check::ok("search", found),
        Err(fault) => Check::failed(
            "search",
            fault.to_string(),
            "mend it, or take search.url out: until then its logs wait in Kafka, as long as that keeps them",
        ),
    }])
}
