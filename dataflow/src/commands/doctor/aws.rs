//! Whether what Terraform makes on AWS is there, and fits these settings.

use super::Check;
use crate::config::Config;

/// The checks of `smartlog doctor --aws`.
#[cfg(not(feature = "s3"))]
pub(super) fn checks(_: &Config) -> anyhow::Result<Vec<Check>> {
    Ok(vec![Check::failed("aws", "this program was built without S3", "build it with --features s3")])
}

/// The checks of `smartlog doctor --aws`.
#[cfg(feature = "s3")]
pub(super) fn checks(config: &Config) -> anyhow::Result<Vec<Check>> {
    use crate::commands::block_on;
    use smartlog_sinks::aws::{Expected, Finding, Verdict, survey};
    use std::time::Duration;

    /// Of all questions together; each has its own limit.
    const PATIENCE: Duration = Duration::from_secs(120);

    let Some(export) = config.export_config().filter(|export| export.target.starts_with("s3://")) else {
        let found = format!("export.target is `{}`, no bucket", config.export.target);
        let advice = "set it to Terraform's output export_target";
        return Ok(vec![Check::failed("aws bucket", found, advice)]);
    };
    let cloud = &config.cloud;
    let expected = Expected {
        export,
        function: cloud.function.clone(),
        summaries_table: cloud.summaries_table.clone(),
        contributions_table: cloud.contributions(),
    };
    let asked = block_on(async { tokio::time::timeout(PATIENCE, survey(&expected)).await })?;
    let Ok(findings) = asked else {
        let found = format!("no answer within {PATIENCE:?}");
        return Ok(vec![Check::failed("aws", found, "check the network, the region and AWS_ENDPOINT_URL")]);
    };
    let check = |Finding { what, verdict, found, advice }: Finding| match verdict {
        Verdict::Good => Check::ok(what, found),
        Verdict::Doubtful => Check::warning(what, found, advice),
        Verdict::Bad => Check::failed(what, found, advice),
    };
    let mut checks: Vec<Check> = findings.into_iter().map(check).collect();
    if cloud.contributions_table.is_none() {
        checks.push(Check::warning(
            "aws costs",
            "what the function uses is estimated, not measured",
            "set cloud.contributions_table to Terraform's output of that name",
        ));
    }
    Ok(checks)
}
