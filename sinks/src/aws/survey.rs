//! What `smartlog doctor --aws` asks: who we are, and whether bucket, notification, tables, function and budget are there and fit
//! together. Changes nothing.
//!
//! ```text
//!   identity ─▶ bucket ─▶ notification ─▶ function ─▶ tables ─▶ budget
//!      └ without one nothing else is asked
//! ```

use super::loader;
use crate::error::SinkError;
use crate::parquet::ExportConfig;
use crate::parquet::target::{self, bucket_of};
use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::{KeySchemaElement, KeyType, TableStatus};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// Where budgets are, whatever the region of the rest.
const BILLING_REGION: &str = "us-east-1";
const APPLY: &str = "make it by Terraform: docs/AWS_SETUP.md";

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// It works without, or it could not be told.
    Doubtful,
    Bad,
}

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    pub verdict: Verdict,
    pub found: String,
    /// How to mend it; empty where there is nothing to mend.
    pub advice: String,
}

/// What is expected to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    pub export: ExportConfig,
    pub function: String,
    pub summaries_table: String,
    pub contributions_table: String,
}

/// Asks AWS, or what `AWS_ENDPOINT_URL` names in its place.
pub async fn survey(expected: &Expected) -> Vec<Finding> {
    let region = expected.export.s3.region.as_deref();
    let config = loader(region).load().await;
    let (identity, account) = identity(&config).await;
    let Some(account) = account else { return vec![identity] };
    let mut findings = vec![identity];
    match bucket(&expected.export).await {
        Ok(found) => {
            findings.push(found);
            findings.push(notification(&config, expected).await);
        }
        Err(found) => findings.push(found),
    }
    findings.push(function(&config, expected).await);
    let dynamodb = aws_sdk_dynamodb::Client::new(&config);
    findings.push(table(&dynamodb, &expected.summaries_table, ["date", "service"]).await);
    findings.push(table(&dynamodb, &expected.contributions_table, ["object", "part"]).await);
    findings.push(budget(&account).await);
    findings
}

fn good(what: impl Into<String>, found: impl Into<String>) -> Finding {
    Finding { what: what.into(), verdict: Verdict::Good, found: found.into(), advice: String::new() }
}

fn doubtful(what: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { what: what.into(), verdict: Verdict::Doubtful, found: found.into(), advice: advice.into() }
}

fn bad(what: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { what: what.into(), verdict: Verdict::Bad, found: found.into(), advice: advice.into() }
}

/// What an answer that is none comes to: missing, not allowed to be looked at, or out of reach.
fn refused<E>(what: &str, error: &SdkError<E>) -> Finding
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = error.code().unwrap_or_default().to_owned();
    let told = error.message().unwrap_or("no reason given");
    match code.as_str() {
        "" => bad(
            what,
            DisplayErrorContext(error).to_string(),
            "check the network, the region and AWS_ENDPOINT_URL",
        ),
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => doubtful(
            what,
            format!("it may not be looked at: {told}"),
            "Terraform's exporter role may: take it, or look yourself",
        ),
        "ResourceNotFoundException" | "NoSuchBucket" | "NotFoundException" => {
            bad(what, "it is not there", APPLY)
        }
        _ => bad(what, format!("{code}: {told}"), APPLY),
    }
}

async fn identity(config: &SdkConfig) -> (Finding, Option<String>) {
    let what = "aws identity";
    match aws_sdk_sts::Client::new(config).get_caller_identity().send().await {
        Ok(identity) => {
            let arn = identity.arn().unwrap_or("nobody");
            let region = config.region().map_or("no region", |region| region.as_ref());
            (good(what, format!("{arn}, {region}")), identity.account().map(str::to_owned))
        }
        Err(error) => {
            let advice = "set up credentials and region: docs/AWS_SETUP.md, 1.";
            let found = match (error.code(), error.message()) {
                (Some(code), Some(message)) => format!("{code}: {message}"),
                _ => DisplayErrorContext(&error).to_string(),
            };
            (bad(what, found, advice), None)
        }
    }
}

async fn bucket(export: &ExportConfig) -> Result<Finding, Finding> {
    match target::open(export).await {
        Ok(target) => Ok(good("aws bucket", format!("{} lets us in", target.url()))),
        Err(SinkError::Fatal(fault) | SinkError::Transient(fault) | SinkError::Poison(fault)) => {
            Err(bad("aws bucket", format!("{}: {}", fault.store, fault.found), fault.advice))
        }
        Err(error @ SinkError::Fenced { .. }) => Err(bad("aws bucket", error.to_string(), "")),
    }
}

async fn notification(config: &SdkConfig, expected: &Expected) -> Finding {
    let what = "aws notification";
    let client = target::s3_client(&expected.export, config);
    let (bucket, prefix) = bucket_of(&expected.export.target);
    let told = match client.get_bucket_notification_configuration().bucket(bucket).send().await {
        Ok(told) => told,
        Err(error) => return refused(what, &error),
    };
    let ours = format!(":function:{}", expected.function);
    let watched: Vec<String> =
        told.lambda_function_configurations()
            .iter()
            .filter(|each| each.lambda_function_arn().ends_with(&ours))
            .map(|each| {
                let rules = each.filter().and_then(|filter| filter.key()).map(|key| key.filter_rules());
                let value = |name: &str| {
                    let rule = rules.unwrap_or_default().iter().find(|rule| {
                        rule.name().is_some_and(|known| known.as_str().eq_ignore_ascii_case(name))
                    });
                    rule.and_then(|rule| rule.value()).unwrap_or_default().to_owned()
                };
                format!("{}*{}", value("prefix"), value("suffix"))
            })
            .collect();
    let needed = [format!("{prefix}logs/"), format!("{prefix}anomalies/")];
    let is_watched = |needed: &String| {
        watched.iter().any(|watched| {
            let prefix = watched.split('*').next().unwrap_or_default();
            needed.starts_with(prefix) || prefix == needed
        })
    };
    match needed.iter().find(|needed| !is_watched(needed)) {
        None => good(what, format!("new objects start {}: {}", expected.function, watched.join(", "))),
        Some(missing) => {
            bad(what, format!("new objects of {missing} do not start {}", expected.function), APPLY)
        }
    }
}

async fn function(config: &SdkConfig, expected: &Expected) -> Finding {
    let what = format!("aws function {}", expected.function);
    let client = aws_sdk_lambda::Client::new(config);
    let told = match client.get_function_configuration().function_name(&expected.function).send().await {
        Ok(told) => told,
        Err(error) => return refused(&what, &error),
    };
    let variables = told.environment().and_then(|environment| environment.variables());
    let value = |name: &str| variables.and_then(|all| all.get(name)).map(String::as_str).unwrap_or_default();
    let (_, prefix) = bucket_of(&expected.export.target);
    for (name, wanted) in [
        ("SMARTLOG_EXPORT_PREFIX", prefix.as_str()),
        ("SMARTLOG_SUMMARIES_TABLE", expected.summaries_table.as_str()),
        ("SMARTLOG_CONTRIBUTIONS_TABLE", expected.contributions_table.as_str()),
    ] {
        if value(name) != wanted {
            let found = format!("its {name} is `{}`, and `{wanted}` is exported to", value(name));
            return bad(what, found, "set Terraform's variables and smartlog's settings alike");
        }
    }
    let state = told.state().map_or("unknown", |state| state.as_str());
    let found = format!("{state}, {} MB, {}", told.memory_size().unwrap_or_default(), architecture(&told));
    if matches!(state, "Active" | "Inactive" | "unknown") {
        good(what, found)
    } else {
        bad(what, format!("{found}: {}", told.state_reason().unwrap_or("no reason given")), APPLY)
    }
}

fn architecture(
    told: &aws_sdk_lambda::operation::get_function_configuration::GetFunctionConfigurationOutput,
) -> String {
    told.architectures().iter().map(|each| each.as_str()).collect::<Vec<_>>().join(", ")
}

async fn table(client: &aws_sdk_dynamodb::Client, name: &str, keys: [&str; 2]) -> Finding {
    let what = format!("aws table {name}");
    let told = match client.describe_table().table_name(name).send().await {
        Ok(told) => told,
        Err(error) => return refused(&what, &error),
    };
    let Some(table) = told.table() else { return bad(what, "it is not there", APPLY) };
    let key = |kind: KeyType| {
        let of_kind = |element: &&KeySchemaElement| *element.key_type() == kind;
        table.key_schema().iter().find(of_kind).map_or("", KeySchemaElement::attribute_name)
    };
    let found = [key(KeyType::Hash), key(KeyType::Range)];
    if found != keys {
        return bad(what, format!("its key is {}, not {}", found.join(", "), keys.join(", ")), APPLY);
    }
    match table.table_status() {
        Some(TableStatus::Active) => {
            good(what, format!("{} items at the last count", table.item_count().unwrap_or_default()))
        }
        status => doubtful(
            what,
            format!("it is {}", status.map_or("unknown", |status| status.as_str())),
            "wait until it is ACTIVE",
        ),
    }
}

async fn budget(account: &str) -> Finding {
    let what = "aws budget";
    let config = loader(Some(BILLING_REGION)).load().await;
    let told = match aws_sdk_budgets::Client::new(&config).describe_budgets().account_id(account).send().await
    {
        Ok(told) => told,
        Err(error) => return refused(what, &error),
    };
    let amount = |spend: Option<&aws_sdk_budgets::types::Spend>| {
        spend.map_or_else(
            || "nothing known".to_owned(),
            |spend| format!("{} {}", spend.amount(), spend.unit()),
        )
    };
    let each = |budget: &aws_sdk_budgets::types::Budget| {
        let spent = budget.calculated_spend().and_then(|spend| spend.actual_spend());
        format!("{}: limit {}, spent {}", budget.budget_name(), amount(budget.budget_limit()), amount(spent))
    };
    let budgets: Vec<String> = told.budgets().iter().map(each).collect();
    if budgets.is_empty() {
        let advice = "terraform apply -target=module.billing, before anything else: docs/AWS_SETUP.md, 2.";
        return doubtful(what, "there is none: nobody is told of costs", advice);
    }
    good(what, budgets.join("; "))
}
