//! The registry that is an MLflow server (2.9 or later), by REST.
//!
//! Artifacts go through the server's proxy (`--serve-artifacts`), so that this program needs no credentials for the
//! storage behind it.

pub use super::http::Login;
use super::http::{ApiError, Ask, Client, encoded};
use super::{Registry, RegistryError, Run, Version};
use crate::{ARTIFACT_PATH, EXPERIMENT, MODEL_NAME, bundle};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use ureq::http::Method;

const API: &str = "/api/2.0/mlflow";
const PROXY: &str = "/api/2.0/mlflow-artifacts/artifacts";
/// The most that one request may log.
const BATCH_PARAMS: usize = 100;
const BATCH_METRICS: usize = 1000;
/// Longest value of a parameter, characters.
const PARAM_MAX: usize = 6000;
/// Versions asked for at once, and pages at the most.
const PAGE: usize = 200;
const PAGES_MAX: usize = 50;

/// An MLflow server.
pub struct Mlflow {
    client: Client,
}

impl Mlflow {
    /// Nothing is asked yet. `authorities`: a PEM file of who may vouch for an https server, in the place of those that the
    /// system knows.
    ///
    /// # Errors
    /// https without the feature `tls`; authorities that cannot be read.
    pub fn new(url: &str, login: Login, authorities: Option<&Path>) -> Result<Self, RegistryError> {
        Ok(Mlflow { client: Client::new(url, login, authorities)? })
    }

    fn get(&self, step: &str, path: String) -> Result<Result<Value, ApiError>, RegistryError> {
        self.json(Ask {
            step,
            method: Method::GET,
            path,
            body: None,
            content_type: "application/json",
            repeatable: true,
        })
    }

    fn post(
        &self,
        step: &str,
        call: &str,
        body: &Value,
        repeatable: bool,
    ) -> Result<Result<Value, ApiError>, RegistryError> {
        self.send(step, Method::POST, call, body, repeatable)
    }

    fn send(
        &self,
        step: &str,
        method: Method,
        call: &str,
        body: &Value,
        repeatable: bool,
    ) -> Result<Result<Value, ApiError>, RegistryError> {
        let body = Some(body.to_string().into_bytes());
        self.json(Ask {
            step,
            method,
            path: format!("{API}/{call}"),
            body,
            content_type: "application/json",
            repeatable,
        })
    }

    fn json(&self, ask: Ask<'_>) -> Result<Result<Value, ApiError>, RegistryError> {
        let bytes = match self.client.ask(&ask)? {
            Ok(bytes) => bytes,
            Err(refused) => return Ok(Err(refused)),
        };
        let unread = |fault: serde_json::Error| {
            self.client.error(
                &ask,
                format!("expected JSON, found {fault}"),
                "check that the URL is that of an MLflow server",
                false,
            )
        };
        serde_json::from_slice(&bytes).map(Ok).map_err(unread)
    }

    /// For calls that nothing but a fault refuses.
    fn expect(
        &self,
        step: &str,
        call: &str,
        answer: Result<Result<Value, ApiError>, RegistryError>,
    ) -> Result<Value, RegistryError> {
        answer?.map_err(|refused| RegistryError {
            step: step.to_owned(),
            place: format!("{}{API}/{call}", self.client.place()),
            found: format!("{}: {}", refused.code, refused.message),
            advice: String::new(),
            away: false,
        })
    }

    fn did(&self, step: &str, call: &str, body: &Value, repeatable: bool) -> Result<Value, RegistryError> {
        self.expect(step, call, self.post(step, call, body, repeatable))
    }

    fn experiment(&self) -> Result<String, RegistryError> {
        let step = "looking for the experiment";
        let call = format!("experiments/get-by-name?experiment_name={}", encoded(EXPERIMENT));
        let found = |answer: &Value| text(&answer["experiment"], "experiment_id");
        if let Ok(answer) = self.get(step, format!("{API}/{call}"))?
            && let Some(id) = found(&answer)
        {
            return Ok(id);
        }
        let created =
            self.post("making the experiment", "experiments/create", &json!({ "name": EXPERIMENT }), true)?;
        match created {
            Ok(answer) => Ok(text(&answer, "experiment_id").unwrap_or_default()),
            // Somebody else just made it, or it was deleted: then the server says so here.
            Err(_) => {
                let answer = self.expect(step, &call, self.get(step, format!("{API}/{call}")))?;
                Ok(found(&answer).unwrap_or_default())
            }
        }
    }

    fn log_values(&self, run_id: &str, run: &Run) -> Result<(), RegistryError> {
        let cut = |value: &str| value.chars().take(PARAM_MAX).collect::<String>();
        let params: Vec<Value> =
            run.params.iter().map(|(key, value)| json!({ "key": key, "value": cut(value) })).collect();
        let metric = |(key, value): (&String, &f64)| json!({ "key": key, "value": value, "timestamp": run.ended_ms, "step": 0 });
        let metrics: Vec<Value> =
            run.metrics.iter().filter(|(_, value)| value.is_finite()).map(metric).collect();
        let params = params.chunks(BATCH_PARAMS).map(|batch| json!({ "run_id": run_id, "params": batch }));
        let metrics =
            metrics.chunks(BATCH_METRICS).map(|batch| json!({ "run_id": run_id, "metrics": batch }));
        for batch in params.chain(metrics) {
            self.did("logging params and metrics", "runs/log-batch", &batch, true)?;
        }
        Ok(())
    }

    fn upload(&self, artifact_uri: &str, name: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        let step = format!("uploading {name}");
        let path = format!("{PROXY}/{}/{}", self.proxied(&step, artifact_uri)?, encoded(name));
        let body = Some(bytes.to_vec());
        let ask = Ask {
            step: &step,
            method: Method::PUT,
            path,
            body,
            content_type: "application/octet-stream",
            repeatable: true,
        };
        match self.client.ask(&ask)? {
            Ok(_) => Ok(()),
            Err(refused) => {
                Err(self.client.error(&ask, format!("{}: {}", refused.code, refused.message), "", false))
            }
        }
    }

    /// The path of a run's artifacts at the proxy.
    fn proxied(&self, step: &str, artifact_uri: &str) -> Result<String, RegistryError> {
        let below = artifact_uri.strip_prefix("mlflow-artifacts:").map(|rest| {
            // mlflow-artifacts:/1/… or mlflow-artifacts://host:port/1/…
            let rest = rest
                .strip_prefix("//")
                .map_or(rest, |with_host| with_host.split_once('/').map_or("", |(_, path)| path));
            rest.trim_matches('/').to_owned()
        });
        below.filter(|path| !path.is_empty()).ok_or_else(|| RegistryError {
            step: step.to_owned(),
            place: self.client.place(),
            found: format!(
                "expected artifacts behind the server's proxy (mlflow-artifacts:/…), found {artifact_uri}"
            ),
            advice: "start the server with --serve-artifacts and --artifacts-destination".into(),
            away: false,
        })
    }

    fn artifact_uri(&self, run_id: &str) -> Result<String, RegistryError> {
        let step = "asking for the run";
        let call = format!("runs/get?run_id={}", encoded(run_id));
        let answer = self.expect(step, &call, self.get(step, format!("{API}/{call}")))?;
        Ok(text(&answer["run"]["info"], "artifact_uri").unwrap_or_default())
    }

    /// Aliases by version.
    fn aliases(&self) -> Result<BTreeMap<String, Vec<String>>, RegistryError> {
        let path = format!("{API}/registered-models/get?name={}", encoded(MODEL_NAME));
        let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
        if let Ok(answer) = self.get("asking for the model", path)? {
            for alias in list(&answer["registered_model"]["aliases"]) {
                if let (Some(name), Some(version)) = (text(alias, "alias"), text(alias, "version")) {
                    aliases.entry(version).or_default().push(name);
                }
            }
        }
        Ok(aliases)
    }

    /// The version that was made of a run, where an answer was lost.
    fn version_of_run(&self, run_id: &str) -> Result<Option<Version>, RegistryError> {
        Ok(self.versions()?.into_iter().find(|version| version.run_id == run_id))
    }

    fn upload_all(&self, run_id: &str, run: &Run) -> Result<(), RegistryError> {
        self.log_values(run_id, run)?;
        let artifact_uri = self.artifact_uri(run_id)?;
        run.artifacts.iter().try_for_each(|(name, bytes)| self.upload(&artifact_uri, name, bytes))
    }
}

impl Registry for Mlflow {
    fn place(&self) -> String {
        self.client.place()
    }

    /// A run whose answer was lost on the way stays behind empty, as `RUNNING`; nothing refers to it.
    fn log_run(&self, run: &Run) -> Result<String, RegistryError> {
        let experiment_id = self.experiment()?;
        let tags: Vec<Value> =
            run.tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let body = json!({
            "experiment_id": experiment_id, "run_name": run.name, "start_time": run.started_ms, "tags": tags,
        });
        let answer = self.did("making the run", "runs/create", &body, false)?;
        let run_id = text(&answer["run"]["info"], "run_id").unwrap_or_default();
        let uploaded = self.upload_all(&run_id, run);
        let status = if uploaded.is_ok() { "FINISHED" } else { "FAILED" };
        let body = json!({ "run_id": run_id, "status": status, "end_time": run.ended_ms });
        let ended = self.did("ending the run", "runs/update", &body, true);
        uploaded.and(ended).map(|_| run_id)
    }

    fn register(&self, run_id: &str, tags: &BTreeMap<String, String>) -> Result<Version, RegistryError> {
        let source = format!("{}/{ARTIFACT_PATH}", self.artifact_uri(run_id)?);
        let model = json!({
            "name": MODEL_NAME,
            "description": "Isolation forests over 5-minute windows of logs, trained by smartlog.",
        });
        let step = "making the registered model";
        match self.post(step, "registered-models/create", &model, true)? {
            Err(refused) if refused.code != "RESOURCE_ALREADY_EXISTS" => {
                return self
                    .expect(step, "registered-models/create", Ok(Err(refused)))
                    .map(|_| Version::default());
            }
            _ => {}
        }
        let tags: Vec<Value> =
            tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let body = json!({ "name": MODEL_NAME, "source": source, "run_id": run_id, "tags": tags });
        let call = "model-versions/create";
        match self.did("making the version", call, &body, false) {
            Ok(answer) => Ok(version_of(&answer["model_version"], &BTreeMap::new())),
            Err(fault) if fault.away => self.version_of_run(run_id)?.ok_or(fault),
            Err(fault) => Err(fault),
        }
    }

    fn versions(&self) -> Result<Vec<Version>, RegistryError> {
        let step = "listing versions";
        let aliases = self.aliases()?;
        let filter = encoded(&format!("name='{MODEL_NAME}'"));
        let (mut versions, mut token) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let call = format!(
                "model-versions/search?filter={filter}&max_results={PAGE}&page_token={}",
                encoded(&token)
            );
            let answer = self.expect(step, &call, self.get(step, format!("{API}/{call}")))?;
            versions.extend(list(&answer["model_versions"]).map(|version| version_of(version, &aliases)));
            token = text(&answer, "next_page_token").unwrap_or_default();
            if token.is_empty() {
                break;
            }
        }
        versions.sort_by_key(|version| std::cmp::Reverse(version.number()));
        Ok(versions)
    }

    fn set_alias(&self, alias: &str, version: &str) -> Result<(), RegistryError> {
        let step = format!("pointing the alias {alias} to version {version}");
        let body = json!({ "name": MODEL_NAME, "alias": alias, "version": version });
        self.did(&step, "registered-models/alias", &body, true).map(|_| ())
    }

    fn remove_alias(&self, alias: &str) -> Result<(), RegistryError> {
        let (step, call) = (format!("withdrawing the alias {alias}"), "registered-models/alias");
        // The server takes it for done where there is none.
        if self.alias(alias)?.is_none() {
            return Err(RegistryError {
                place: self.place(),
                step,
                found: format!("expected an alias {alias}, found none"),
                advice: "smartlog models list shows what there is".into(),
                away: false,
            });
        }
        let body = json!({ "name": MODEL_NAME, "alias": alias });
        self.expect(&step, call, self.send(&step, Method::DELETE, call, &body, true)).map(|_| ())
    }

    fn alias(&self, alias: &str) -> Result<Option<Version>, RegistryError> {
        let step = format!("asking for the alias {alias}");
        let call = format!("registered-models/alias?name={}&alias={}", encoded(MODEL_NAME), encoded(alias));
        match self.get(&step, format!("{API}/{call}"))? {
            Ok(answer) => Ok(Some(version_of(&answer["model_version"], &BTreeMap::new()))),
            // A missing alias, or a missing model, is no fault.
            Err(refused)
                if matches!(refused.code.as_str(), "INVALID_PARAMETER_VALUE" | "RESOURCE_DOES_NOT_EXIST") =>
            {
                Ok(None)
            }
            Err(refused) => self.expect(&step, &call, Ok(Err(refused))).map(|_| None),
        }
    }

    fn set_tag(&self, version: &str, key: &str, value: &str) -> Result<(), RegistryError> {
        let step = format!("tagging version {version}");
        let body = json!({ "name": MODEL_NAME, "version": version, "key": key, "value": value });
        self.did(&step, "model-versions/set-tag", &body, true).map(|_| ())
    }

    fn bundle(&self, version: &Version) -> Result<Vec<u8>, RegistryError> {
        let step = format!("downloading version {}", version.version);
        let below = self.proxied(&step, &self.artifact_uri(&version.run_id)?)?;
        let path = format!("{PROXY}/{below}/{ARTIFACT_PATH}/{}", bundle::FILE);
        let ask = Ask {
            step: &step,
            method: Method::GET,
            path,
            body: None,
            content_type: "application/octet-stream",
            repeatable: true,
        };
        self.client.ask(&ask)?.map_err(|refused| {
            let advice = "the version was not logged by smartlog train, or its artifacts were deleted";
            self.client.error(&ask, format!("{}: {}", refused.code, refused.message), advice, false)
        })
    }

    fn run(&self, run_id: &str) -> Result<Run, RegistryError> {
        let step = "asking for the run";
        let call = format!("runs/get?run_id={}", encoded(run_id));
        let answer = self.expect(step, &call, self.get(step, format!("{API}/{call}")))?;
        let (info, data) = (&answer["run"]["info"], &answer["run"]["data"]);
        let pairs = |key: &str| {
            list(&data[key]).filter_map(|pair| Some((text(pair, "key")?, text(pair, "value")?))).collect()
        };
        let metric = |metric: &Value| Some((text(metric, "key")?, metric["value"].as_f64()?));
        Ok(Run {
            name: text(info, "run_name").unwrap_or_default(),
            started_ms: info["start_time"].as_i64().unwrap_or_default(),
            ended_ms: info["end_time"].as_i64().unwrap_or_default(),
            params: pairs("params"),
            metrics: list(&data["metrics"]).filter_map(metric).collect(),
            tags: pairs("tags"),
            artifacts: Vec::new(),
        })
    }
}

fn version_of(value: &Value, aliases: &BTreeMap<String, Vec<String>>) -> Version {
    let version = text(value, "version").unwrap_or_default();
    let tag = |tag: &Value| Some((text(tag, "key")?, text(tag, "value")?));
    Version {
        run_id: text(value, "run_id").unwrap_or_default(),
        created_ms: value["creation_timestamp"].as_i64().unwrap_or_default(),
        tags: list(&value["tags"]).filter_map(tag).collect(),
        aliases: aliases.get(&version).cloned().unwrap_or_default(),
        version,
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    match value.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
