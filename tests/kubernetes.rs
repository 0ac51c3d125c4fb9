//! `k8s/`: what `kubectl apply -k` would send, judged by Kubernetes' own schemas, by smartlog itself, and by how its parts fit.
//!
//! No cluster runs here: what admission, scheduling and the kubelet say stays unchecked (docs/VERIFIED.md).

use serde_json::Value;
use smartlog_test_services::Service;
use smartlog_tests::manifest::{Reader, copied, members, repository, strings};
use smartlog_tests::program::binary;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

const VARIANTS: [&str; 3] = ["base", "overlays/single", "overlays/cluster"];

/// The objects of a variant, or `None` when tests of services are switched off.
fn objects(variant: &str) -> Option<Vec<Value>> {
    let reader = Reader::require()?;
    let list = reader.kustomize(&repository().join("k8s").join(variant)).expect(variant);
    Some(list.as_array().expect("a list").clone())
}

/// The overlay `single` with the component `generator`, or `None` when tests of services are switched off.
fn with_generator() -> Option<Vec<Value>> {
    let reader = Reader::require()?;
    let folder = copied(&["k8s"]);
    let overlay = folder.path().join("k8s/overlays/single");
    let file = overlay.join("kustomization.yaml");
    let text = std::fs::read_to_string(&file).expect("text") + "  - ../../components/generator\n";
    std::fs::write(&file, text).expect("written");
    let list = reader.kustomize(&overlay).expect("rendered");
    Some(list.as_array().expect("a list").clone())
}

/// What kubeconform says against `objects`.
fn refused(objects: &[Value]) -> Option<Result<(), String>> {
    let service = Service::require("kubeconform")?;
    let mut child = Command::new(service.address())
        .args(["-strict", "-schema-location", &service.variable("SCHEMAS"), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubeconform starts");
    let text: Vec<String> = objects.iter().map(Value::to_string).collect();
    child.stdin.take().expect("a pipe").write_all(text.join("\n---\n").as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Some(if output.status.success() { Ok(()) } else { Err(said) })
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("a name")
}

fn named<'a>(objects: &'a [Value], kind: &str, wanted: &str) -> &'a Value {
    let found = of_kind(objects, kind).into_iter().find(|object| name(object) == wanted);
    found.unwrap_or_else(|| panic!("there is no {kind} {wanted}"))
}

/// What makes pods, and the pods' template.
fn workloads(objects: &[Value]) -> Vec<(&Value, &Value)> {
    let makers = objects.iter().filter(|o| o["kind"] == "Deployment" || o["kind"] == "StatefulSet");
    makers.map(|object| (object, &object["spec"]["template"])).collect()
}

fn container(template: &Value) -> &Value {
    let containers = template["spec"]["containers"].as_array().expect("containers");
    assert_eq!(containers.len(), 1, "one container a pod");
    &containers[0]
}

/// Whether every pair of `selector` is among `labels`.
fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_object().is_some_and(|pairs| !pairs.is_empty() && pairs.iter().all(|(k, v)| labels[k] == *v))
}

fn config(objects: &[Value], stem: &str) -> BTreeMap<String, String> {
    let named = |object: &&Value| {
        name(object).rsplit_once('-').is_some_and(|(start, hash)| start == stem && hash.len() == 10)
    };
    let found = of_kind(objects, "ConfigMap").into_iter().find(named).expect("generated");
    members(&found["data"]).map(|(k, v)| (k.clone(), v.as_str().expect("text").to_owned())).collect()
}

#[test]
fn every_variant_conforms_to_kubernetes_schemas() {
    for variant in VARIANTS {
        let Some(objects) = objects(variant) else { return };
        refused(&objects).expect("required above").unwrap_or_else(|said| panic!("{variant}: {said}"));
    }
}

#[test]
fn broken_manifests_are_refused() {
    let Some(reader) = Reader::require() else { return };
    for (file, right, wrong) in [
        ("base/dataflow.yaml", "replicas: 1", "replicas: one"),
        ("base/dataflow.yaml", "livenessProbe:", "livenesProbe:"),
        ("base/api.yaml", "minAvailable: 1", "minAvailabel: 1"),
        ("components/autoscaling/api.yaml", "maxReplicas: 10", "maxReplicas: \"10\""),
        ("components/monitoring/monitors.yaml", "interval: 15s", "intervall: 15s"),
    ] {
        let folder = copied(&["k8s"]);
        let path = folder.path().join("k8s").join(file);
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(text.contains(right), "{right}");
        std::fs::write(&path, text.replacen(right, wrong, 1)).expect("written");
        let objects = reader.kustomize(&folder.path().join("k8s/overlays/single")).expect("still YAML");
        let objects = objects.as_array().expect("a list");
        refused(objects).expect("required above").expect_err(wrong);
    }
}

#[test]
fn every_pod_is_confined_bounded_and_probed() {
    for variant in VARIANTS {
        let Some(objects) = objects(variant) else { return };
        for (workload, template) in workloads(&objects) {
            let (pod, container, whose) = (&template["spec"], container(template), name(workload));
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{whose}");
            assert_eq!(pod["automountServiceAccountToken"], false, "{whose}");
            let confined = &container["securityContext"];
            assert_eq!(confined["readOnlyRootFilesystem"], true, "{whose}");
            assert_eq!(confined["allowPrivilegeEscalation"], false, "{whose}");
            assert_eq!(confined["capabilities"]["drop"][0], "ALL", "{whose}");
            let resources = &container["resources"];
            assert!(
                resources["requests"]["cpu"].is_string() && resources["limits"]["memory"].is_string(),
                "{whose}"
            );
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                assert!(container[probe]["httpGet"]["path"].is_string(), "{whose} has no {probe}");
            }
            let image = container["image"].as_str().expect("an image");
            assert!(image.starts_with("ghcr.io/smartlog-rs/smartlog:0."), "{whose}: {image} is not pinned");
            assert!(pod["terminationGracePeriodSeconds"].as_i64() > Some(10), "{whose} has time to drain");
        }
    }
}

#[test]
fn what_names_something_names_what_is_there() {
    for variant in VARIANTS {
        let Some(objects) = objects(variant) else { return };
        let workloads = workloads(&objects);
        let labels = |template: &Value| template["metadata"]["labels"].clone();
        for service in of_kind(&objects, "Service") {
            let behind = workloads.iter().find(|(_, t)| selects(&service["spec"]["selector"], &labels(t)));
            let (_, template) = behind.unwrap_or_else(|| panic!("nobody behind {}", name(service)));
            for port in service["spec"]["ports"].as_array().expect("ports") {
                assert!(has_port(template, &port["targetPort"]), "{}: {port}", name(service));
            }
        }
        for policy in of_kind(&objects, "NetworkPolicy") {
            let chosen = &policy["spec"]["podSelector"]["matchLabels"];
            let (_, template) =
                workloads.iter().find(|(_, t)| selects(chosen, &labels(t))).expect("somebody");
            for rule in policy["spec"]["ingress"].as_array().expect("rules") {
                assert!(has_port(template, &rule["ports"][0]["port"]), "{}: {rule}", name(policy));
            }
        }
        for budget in of_kind(&objects, "PodDisruptionBudget") {
            let chosen = &budget["spec"]["selector"]["matchLabels"];
            assert!(workloads.iter().any(|(_, t)| selects(chosen, &labels(t))), "{}", name(budget));
        }
        for monitor in of_kind(&objects, "ServiceMonitor") {
            let chosen = &monitor["spec"]["selector"]["matchLabels"];
            let service = of_kind(&objects, "Service");
            let service =
                service.iter().find(|s| selects(chosen, &s["metadata"]["labels"])).expect("a service");
            let port = &monitor["spec"]["endpoints"][0]["port"];
            assert!(service["spec"]["ports"].as_array().expect("ports").iter().any(|p| p["name"] == *port));
        }
        for scaler in of_kind(&objects, "HorizontalPodAutoscaler") {
            let target = scaler["spec"]["scaleTargetRef"]["name"].as_str().expect("a name");
            let scaled = named(&objects, "Deployment", target);
            assert!(scaled["spec"]["replicas"].is_null(), "two would decide how many pods {target} has");
        }
        assert!(variant == "base" || of_kind(&objects, "ServiceMonitor").len() == 2, "{variant}");
    }
}

fn has_port(template: &Value, wanted: &Value) -> bool {
    let ports = container(template)["ports"].as_array().expect("ports");
    ports.iter().any(|port| port["name"] == *wanted || port["containerPort"] == *wanted)
}

#[test]
fn the_processes_of_a_set_are_the_pods_of_the_stateful_set() {
    for (variant, count) in [("base", 1), ("overlays/cluster", 3)] {
        let Some(objects) = objects(variant) else { return };
        let set = named(&objects, "StatefulSet", "smartlog-dataflow");
        let headless = set["spec"]["serviceName"].as_str().expect("a name");
        let service = named(&objects, "Service", headless);
        assert_eq!(service["spec"]["clusterIP"], "None");
        assert_eq!(
            service["spec"]["publishNotReadyAddresses"], true,
            "they look for each other before they are ready"
        );
        assert_eq!(
            (&set["spec"]["replicas"], &set["spec"]["podManagementPolicy"]),
            (&count.into(), &"Parallel".into())
        );
        let hosts = config(&objects, "smartlog-hosts")["hosts"].clone();
        let expected: Vec<String> =
            (0..count).map(|n| format!("{}-{n}.{headless}:2101", name(set))).collect();
        assert_eq!(hosts.lines().collect::<Vec<_>>(), expected);
        let processes = config(&objects, "smartlog").get("SMARTLOG_ENGINE_PROCESSES").cloned();
        assert_eq!(processes, (count > 1).then(|| count.to_string()));
        let strategy = &set["spec"]["updateStrategy"]["type"];
        assert_eq!(strategy, if count > 1 { "OnDelete" } else { "RollingUpdate" }, "a set starts as a whole");
    }
}

/// The variables of a container as the kubelet would set them, with stand-ins for what it takes from elsewhere.
fn variables(objects: &[Value], container: &Value, folder: &Path) -> BTreeMap<String, String> {
    let mut all = config(objects, "smartlog");
    for entry in container["env"].as_array().into_iter().flatten() {
        let from = &entry["valueFrom"];
        let value = match entry["value"].as_str() {
            Some(value) => value.to_owned(),
            None if from["fieldRef"]["fieldPath"] == "metadata.labels['apps.kubernetes.io/pod-index']" => {
                "2".into()
            }
            None if from["secretKeyRef"]["key"] == "api-tokens" => format!("ops:read:{}", "0".repeat(64)),
            None => panic!("what is this? {entry}"),
        };
        all.insert(entry["name"].as_str().expect("a name").into(), value);
    }
    let mounted: BTreeSet<&str> = container["volumeMounts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|mount| mount["mountPath"].as_str())
        .collect();
    for (variable, path) in all.iter_mut().filter(|(_, value)| value.starts_with('/')) {
        // Who has no such file must not look at the variable.
        let whose: &[&str] = match variable.as_str() {
            "SMARTLOG_MODELS_FOLDER" | "SMARTLOG_ENGINE_HOSTFILE" => &["dataflow"],
            "SMARTLOG_STORE_PASSWORD_FILE" => &["dataflow", "api"],
            _ => &["dataflow", "api", "generator"],
        };
        if !whose.iter().any(|name| container["name"] == *name) {
            continue;
        }
        assert!(mounted.iter().any(|mount| path.starts_with(mount)), "{variable}: {path} is not mounted");
        let stand_in = folder.join(path.trim_start_matches('/').replace('/', "_"));
        std::fs::write(&stand_in, config(objects, "smartlog-hosts")["hosts"].as_bytes()).expect("written");
        *path = stand_in.display().to_string();
    }
    all
}

#[test]
fn smartlog_understands_every_argument_and_variable_that_its_pods_give_it() {
    let of_variants = VARIANTS.into_iter().filter_map(|variant| Some((variant, objects(variant)?)));
    let generator = with_generator().map(|objects| ("components/generator", objects));
    for (variant, objects) in of_variants.chain(generator) {
        for (workload, template) in workloads(&objects) {
            let folder = tempfile::tempdir().expect("a folder");
            let container = container(template);
            let mut command = Command::new(binary());
            command
                .args(&strings(&container["command"])[1..])
                .arg("--show-config")
                .current_dir(folder.path());
            command.env_clear().envs(variables(&objects, container, folder.path()));
            let output = command.output().expect("smartlog starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{variant}: {} would not start: {said}", name(workload));
        }
    }
}

#[test]
fn the_generator_can_be_added() {
    let Some(objects) = with_generator() else { return };
    refused(&objects).expect("required above").expect("it conforms");
    let container_of = |kind, name| container(&named(&objects, kind, name)["spec"]["template"]);
    let generator = container_of("Deployment", "smartlog-generator");
    assert_eq!(strings(&generator["command"]), ["smartlog", "generate"]);
    assert_eq!(generator["image"], container_of("StatefulSet", "smartlog-dataflow")["image"]);
}

#[test]
fn prometheus_knows_the_jobs_by_the_names_of_rules_and_dashboards() {
    let Some(objects) = objects("overlays/single") else { return };
    for (monitor, job) in [("smartlog-dataflow", "smartlog"), ("smartlog-api", "smartlog-api")] {
        let spec = &named(&objects, "ServiceMonitor", monitor)["spec"];
        let services = of_kind(&objects, "Service");
        let chosen =
            |service: &&&Value| selects(&spec["selector"]["matchLabels"], &service["metadata"]["labels"]);
        let service = services.iter().find(chosen).expect("a service");
        // Where no label is named, the operator takes the name of the service.
        let label = spec["jobLabel"].as_str().map(|label| &service["metadata"]["labels"][label]);
        assert_eq!(label.unwrap_or(&service["metadata"]["name"]), job, "{monitor}");
    }
    let rules = std::fs::read_to_string(repository().join("grafana/prometheus/rules/alerts.yml"));
    assert!(rules.expect("text").contains(r#"absent(up{job="smartlog"})"#));
}
