//! `smartlog replay`: makes the decision of an episode again, from what was kept of it and the logs.
//!
//! ```text
//!   anomaly_evidence: detector, rules, clock, offsets ───────┐
//!   the store's, or Kafka's, logs before those offsets ──────┼─▶ the same operators ─▶ the same decision, or what differs
//!   the registry's model of that digest, if its scores did it┘
//! ```

mod logs;

use crate::cli::{ReplayArgs, ReplayFrom};
use crate::config::{Config, OutputFormat};
use crate::models::{ordered, served};
use anyhow::Context as _;
use logs::{Logs, time};
use serde::Serialize;
use serde_json::Value;
use smartlog_operators::evidence::{Inputs, ScoredBy, Stretch, decide, decide_by_score};
use smartlog_operators::record::OVERFLOW;
use smartlog_operators::score::Model;
use smartlog_schema::anomaly::AnomalyType;
use smartlog_schema::window::MICROS;
use smartlog_sinks::{EvidenceReader, StoredEvidence};
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

/// Ends with a failure when the decision is another one.
pub fn run(config: &Config, args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let store = super::store_config(config)?;
    let told = super::block_on(async {
        let mut reader = EvidenceReader::new(&store)?;
        let ids = if args.all { reader.all().await? } else { args.ids.clone() };
        let mut told = Vec::new();
        for id in ids {
            told.push(replay(config, args, &mut reader, id).await?);
        }
        Ok::<_, anyhow::Error>(told)
    })??;
    let mut out = io::stdout().lock();
    for replayed in &told {
        match config.output.format {
            OutputFormat::Json => {
                serde_json::to_writer(&mut out, replayed)?;
                writeln!(out)?;
            }
            OutputFormat::Table => write_one(replayed, &mut out)?,
        }
    }
    if told.is_empty() {
        writeln!(out, "nothing was kept of any decision yet")?;
    }
    Ok(if told.iter().all(|replayed| replayed.same) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One decision, made again.
#[derive(Debug, Serialize)]
struct Replayed {
    anomaly_id: i64,
    /// The canonical JSON of both is the same, byte for byte.
    same: bool,
    decision: Value,
    /// Null: nothing of the kind is raised.
    replayed: Value,
    /// Fields of the decision that are not the same.
    differs: Vec<String>,
    /// What it takes and is not there, in words.
    missing: Vec<String>,
    clock: String,
    base: String,
    program: String,
    model_version: Option<String>,
    feedback_seq: i64,
    logs: i64,
}

async fn replay(
    config: &Config,
    args: &ReplayArgs,
    reader: &mut EvidenceReader,
    id: i64,
) -> anyhow::Result<Replayed> {
    let evidence = reader.evidence(id).await?.with_context(|| {
        format!("nothing was kept of anomaly {id}: there is none with this id, or it is past the retention")
    })?;
    let inputs: Inputs = serde_json::from_str(&evidence.inputs).with_context(|| {
        format!("anomaly {id} was decided by another version, whose inputs this one cannot read")
    })?;
    let is_new_pattern = evidence.anomaly_type == AnomalyType::NewPattern.as_str();
    let shapes_of = is_new_pattern.then_some(evidence.service.as_str());
    let Logs { stretch, mut missing, doubtful } = match args.from(config) {
        ReplayFrom::Store => logs::of_store(reader, inputs.stretch(), &evidence.offsets, shapes_of).await?,
        ReplayFrom::Kafka => logs::of_kafka(config, &inputs.stretch(), &evidence.offsets, shapes_of)?,
    };
    if evidence.service == OVERFLOW {
        missing.push(format!("which services were counted as {OVERFLOW} is not kept"));
    }
    let decision: Value = serde_json::from_str(&evidence.decision).context("reading the decision")?;
    let again = decided_again(config, &evidence, &inputs, &stretch, &decision, &mut missing)
        .with_context(|| format!("deciding on anomaly {id} again"))?;
    let same = again.as_deref() == Some(evidence.decision.as_str());
    missing.extend(doubtful.filter(|_| !same));
    let replayed: Value = again.map_or(Ok(Value::Null), |text| serde_json::from_str(&text))?;
    let fields = decision.as_object().into_iter().flatten();
    let differs = fields.filter(|(name, value)| replayed.get(name.as_str()) != Some(value));
    Ok(Replayed {
        anomaly_id: id,
        same,
        differs: differs.map(|(name, _)| name.clone()).collect(),
        decision,
        replayed,
        missing,
        clock: time(inputs.clock_us),
        base: time(inputs.base.saturating_mul(MICROS)),
        program: inputs.program,
        model_version: inputs.model.map(|model| model.version).or(evidence.model_version),
        feedback_seq: evidence.feedback_seq,
        logs: stretch.logs(),
    })
}

/// `None`: nothing of the kind is raised, or what it takes is `missing`.
fn decided_again(
    config: &Config,
    evidence: &StoredEvidence,
    inputs: &Inputs,
    stretch: &Stretch,
    decision: &Value,
    missing: &mut Vec<String>,
) -> anyhow::Result<Option<String>> {
    let service = &evidence.service;
    let Some(by) = &inputs.model else {
        let anomaly_type = AnomalyType::parse(&evidence.anomaly_type)
            .with_context(|| format!("this version knows no anomalies of type {}", evidence.anomaly_type))?;
        let started_at = decision["started_at"].as_i64().unwrap_or_default();
        let again = decide(service, anomaly_type, started_at, &evidence.detector, inputs, stretch);
        return again.context("its detector was written by another version");
    };
    match model(config, by) {
        Ok(model) if model.columns().of_patterns().is_some() && evidence.detector.is_empty() => {
            missing.push("what kinds of messages the windows had was not kept".to_owned());
            Ok(None)
        }
        Ok(model) => {
            let (version, kept) = (by.version.as_str(), evidence.detector.as_slice());
            decide_by_score(service, &*model, version, kept, inputs, stretch)
                .context("the patterns of its windows were written by another version")
        }
        Err(fault) => {
            missing.push(format!("model version {}: {fault:#}", by.version));
            Ok(None)
        }
    }
}

/// The model that decided, from the registry.
fn model(config: &Config, by: &ScoredBy) -> anyhow::Result<Arc<dyn Model>> {
    let order = ordered(config, &by.version)?;
    anyhow::ensure!(
        order.digest == by.digest,
        "expected the digest {}, found {} in {}: another model has its number by now",
        by.digest,
        order.digest,
        config.models.registry()
    );
    served(&order).with_context(|| format!("model version {}", by.version))
}

fn write_one(replayed: &Replayed, out: &mut impl Write) -> io::Result<()> {
    let Replayed { anomaly_id, same, decision, replayed: again, differs, missing, .. } = replayed;
    // Nothing came of it because something is not there: that says nothing about the decision.
    let is_undecided = !same && again.is_null() && !missing.is_empty();
    let verdict = match (same, is_undecided) {
        (true, _) => "the same decision",
        (_, true) => "NOT decided again",
        _ => "ANOTHER decision",
    };
    writeln!(
        out,
        "anomaly {anomaly_id}: {verdict}, from {} logs and what was known at {}",
        replayed.logs, replayed.base
    )?;
    writeln!(out, "  decided at {} by smartlog {}", replayed.clock, replayed.program)?;
    writeln!(out, "  {decision}")?;
    if !same && !is_undecided {
        writeln!(out, "  {again}")?;
        writeln!(
            out,
            "  differs in: {}",
            if differs.is_empty() { "nothing but form".into() } else { differs.join(", ") }
        )?;
    }
    if !same {
        missing.iter().try_for_each(|missing| writeln!(out, "  missing: {missing}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_decided_again_is_not_called_another_decision() {
        let told = |same: bool, replayed: Value, missing: &[&str]| {
            let replayed = Replayed {
                anomaly_id: 7,
                same,
                decision: serde_json::json!({"severity": "HIGH"}),
                replayed,
                differs: vec!["severity".into()],
                missing: missing.iter().map(|text| (*text).to_owned()).collect(),
                clock: String::new(),
                base: String::new(),
                program: String::new(),
                model_version: None,
                feedback_seq: 0,
                logs: 3,
            };
            let mut out = Vec::new();
            write_one(&replayed, &mut out).expect("a vector takes all");
            String::from_utf8(out).expect("UTF-8")
        };
        let undecided = told(false, Value::Null, &["model version 3: not there"]);
        assert!(undecided.contains("NOT decided again") && undecided.contains("missing: model version 3"));
        assert!(!undecided.contains("differs in"), "{undecided}");
        let low = serde_json::json!({"severity": "LOW"});
        assert!(told(false, low, &["old logs"]).contains("ANOTHER decision"));
        assert!(told(false, Value::Null, &[]).contains("ANOTHER decision"));
        assert!(told(true, Value::Null, &[]).contains("the same decision"));
    }
}
