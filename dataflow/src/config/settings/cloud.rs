//! `[cloud]`: what there is on AWS beside the bucket, and what it costs.

use super::{Config, DAY};
use crate::config::units::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smartlog_api::CloudCosts;
use smartlog_sinks::parquet::Measure;
use std::time::Duration;

/// What an AWS account has for nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// Made before 15 July 2025, in its first twelve months.
    #[default]
    FirstYear,
    /// Made before 15 July 2025, and older than twelve months.
    Older,
    /// Made since 15 July 2025: credits in place of S3's free year.
    Credits,
}

/// How the function's tables are billed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TableBilling {
    /// By the units that requests take.
    #[default]
    OnDemand,
    /// By the capacity that is set aside.
    Provisioned,
}

/// What there is on AWS beside the bucket, and what it costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cloud {
    /// What the account has for nothing: first_year, older or credits.
    pub account: Account,
    /// Whose prices the estimate of costs takes.
    #[schemars(extend("x-form" = "REGION"))]
    pub region: String,
    /// How the function's tables are billed, as Terraform's table_billing_mode has it: on_demand or provisioned.
    ///
    /// With `provisioned` the estimate charges nothing for their requests: it takes what is set aside for both tables together to
    /// be within the 25 units of writing and 25 of reading that are free for ever.
    pub table_billing: TableBilling,
    /// Table in which the function log-processor keeps what it used, for the estimate of costs; unset: its use is estimated.
    ///
    /// `summary_contributions`, where Terraform made it. Read with the credentials and in the region of the export.
    #[schemars(extend("x-form" = "TABLE"))]
    pub contributions_table: Option<String>,
    /// Table of the daily summaries; `smartlog doctor --aws` looks for it.
    #[schemars(extend("x-form" = "TABLE"))]
    pub summaries_table: String,
    /// The function that counts the files; `smartlog doctor --aws` looks for it.
    #[schemars(extend("x-form" = "NAME"))]
    pub function: String,
    /// How often the bucket is listed and that table is read, for the estimate of costs; a request for each 1,000 files.
    #[serde(with = "HumanDuration")]
    pub measure_every: Duration,
}

impl Default for Cloud {
    fn default() -> Self {
        Cloud {
            account: Account::FirstYear,
            region: "eu-west-1".into(),
            table_billing: TableBilling::OnDemand,
            contributions_table: None,
            summaries_table: "daily_summaries".into(),
            function: "log-processor".into(),
            measure_every: DAY,
        }
    }
}

impl Account {
    /// As the API names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Account::FirstYear => "first_year",
            Account::Older => "older",
            Account::Credits => "credits",
        }
    }
}

impl TableBilling {
    /// As the API names it.
    pub fn as_str(self) -> &'static str {
        match self {
            TableBilling::OnDemand => "on_demand",
            TableBilling::Provisioned => "provisioned",
        }
    }
}

impl Cloud {
    /// The table of contributions, or what Terraform calls it.
    pub fn contributions(&self) -> String {
        self.contributions_table.clone().unwrap_or_else(|| "summary_contributions".into())
    }

    /// What the export measures on its way.
    pub fn measure(&self) -> Measure {
        Measure { every: self.measure_every, contributions: self.contributions_table.clone() }
    }
}

impl Config {
    /// What the API takes for granted where a request does not say otherwise; `None` where nothing is known of the region or
    /// the account.
    pub fn cloud_costs(&self) -> Option<CloudCosts> {
        let Cloud { account, region, table_billing, .. } = &self.cloud;
        CloudCosts::new(account.as_str(), region, table_billing.as_str())
    }
}
