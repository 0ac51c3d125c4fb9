//! One call: every object by itself, so that one that fails does not keep the others from being counted.

use serde_json::{Value, json};
use tracing::{error, info};

use crate::event::{Call, Created, Message};
use crate::failure::Failure;
use crate::manifest;
use crate::object::{Kind, Object};
use crate::reconcile::{Goal, Outcome, Reconciler};
use crate::usage::Used;

/// Works through a call and notes in `used` what came of it. The answer is what Lambda expects of a queue's batch, else null.
///
/// # Errors
/// Each failed object with its reason, when S3 or EventBridge called: Lambda repeats the call, in which the others are
/// known already, and at last hands it to the failure destination with this text.
pub async fn handle(
    reconciler: &Reconciler,
    prefix: &str,
    call: Call,
    used: &mut Used,
) -> Result<Value, String> {
    match call {
        Call::Direct(created) => {
            let failures = count_all(reconciler, prefix, &created, used).await;
            if failures.is_empty() { Ok(Value::Null) } else { Err(failures.join("; ")) }
        }
        Call::Queue(messages) => {
            let mut failed = Vec::new();
            for Message { id, created } in messages {
                let failures = match created {
                    Ok(created) => count_all(reconciler, prefix, &created, used).await,
                    Err(text) => vec![note(used, &Failure::not_ours(text), "")],
                };
                if !failures.is_empty() {
                    failed.push(json!({"itemIdentifier": id}));
                }
            }
            Ok(json!({"batchItemFailures": failed}))
        }
    }
}

async fn count_all(
    reconciler: &Reconciler,
    prefix: &str,
    created: &[Created],
    used: &mut Used,
) -> Vec<String> {
    let mut failures = Vec::new();
    for each in created {
        used.objects += 1;
        match count(reconciler, prefix, each).await {
            Ok(Outcome::Known) => info!(bucket = each.bucket, key = each.key, "known already"),
            Ok(Outcome::Changed { services, logs }) => {
                used.logs += logs;
                info!(bucket = each.bucket, key = each.key, services, logs, "counted");
            }
            Err(failure) => failures.push(note(used, &failure, &each.key)),
        }
    }
    failures
}

fn note(used: &mut Used, failure: &Failure, key: &str) -> String {
    used.failures.push(failure.fault);
    error!(key, fault = failure.fault.as_str(), "{}", failure.text);
    failure.to_string()
}

async fn count(reconciler: &Reconciler, prefix: &str, created: &Created) -> Result<Outcome, Failure> {
    let object = Object::parse(&created.bucket, &created.key, prefix).map_err(Failure::not_ours)?;
    let Some(object) = object else { return Ok(Outcome::Known) };
    let sequencer = created.sequencer.as_ref();
    if object.kind != Kind::Manifest {
        return reconciler.reach(&object, Goal::Counts, sequencer).await;
    }
    let mut services = 0;
    for name in manifest::voided(&reconciler.s3, &object).await? {
        let void = Object { key: object.beside(&name), kind: Kind::Logs, ..object.clone() };
        if let Outcome::Changed { services: changed, .. } = reconciler.reach(&void, Goal::Void, None).await? {
            services += changed;
        }
    }
    Ok(Outcome::Changed { services, logs: 0 })
}
