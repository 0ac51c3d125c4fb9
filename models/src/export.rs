//! The folder that MLflow's Python packages load, and ours.
//!
//! ```text
//!   MLmodel              flavours python_function and onnx, signature, input example
//!   model.onnx           the whole stream's forest: X → label, scores (decision function)
//!   onnx/shared.onnx     the services' shared forest, on scaled values
//!   onnx/services/*.onnx each service's own; onnx/services.json names them
//!   bundle.json.zst      all of it, as smartlog reads it
//!   input_example.json, serving_input_example.json, requirements.txt, conda.yaml, python_env.yaml
//! ```

use crate::bundle::{Bundle, BundleError, FILE};
use serde_json::json;

/// What `requirements.txt` asks for: what the folder was tried with.
const REQUIREMENTS: [&str; 4] = ["mlflow>=3.0", "onnx>=1.17", "onnxruntime>=1.20", "numpy>=2"];
/// The MLflow that the folder's form is of.
const MLFLOW_VERSION: &str = "3.17.2";
/// The ONNX package that the folder's form is of.
const ONNX_VERSION: &str = "1.23.2";
/// Quoted by its third part: as a number YAML would make a float of it.
const PYTHON_VERSION: &str = "3.11.0";

/// A file: its path in the folder, with `/`, and its bytes.
pub type File = (String, Vec<u8>);

/// Every file of the model folder. Equal bundles give equal folders.
///
/// # Errors
/// A forest that ONNX cannot hold.
pub fn model_folder(bundle: &Bundle, bytes: &[u8]) -> Result<Vec<File>, BundleError> {
    let onnx = |scope: &str, forest: &linfa_isolation_forest::IsolationForest| {
        forest.export_onnx().map_err(|fault| BundleError::Value {
            what: format!("the forest of {scope} as ONNX"),
            found: fault.to_string(),
        })
    };
    let mut files: Vec<File> = vec![
        ("MLmodel".into(), mlmodel(bundle, bytes).into_bytes()),
        ("model.onnx".into(), onnx("the whole stream", &bundle.stream.forest)?),
        (FILE.into(), bytes.to_vec()),
        ("input_example.json".into(), input_example(bundle).to_string().into_bytes()),
        ("serving_input_example.json".into(), serving_example(bundle).to_string().into_bytes()),
        ("requirements.txt".into(), (REQUIREMENTS.join("\n") + "\n").into_bytes()),
        ("conda.yaml".into(), conda().into_bytes()),
        ("python_env.yaml".into(), python_env().into_bytes()),
    ];
    if let Some(shared) = &bundle.shared {
        files.push(("onnx/shared.onnx".into(), onnx("all services", &shared.forest)?));
    }
    let mut names = serde_json::Map::new();
    for (number, (service, member)) in bundle.services.iter().enumerate() {
        // A service's name may hold anything that a file's name may not.
        let path = format!("onnx/services/{number:05}.onnx");
        files.push((path.clone(), onnx(service, &member.forest)?));
        names.insert(service.clone(), path.into());
    }
    files.push(("onnx/services.json".into(), serde_json::Value::Object(names).to_string().into_bytes()));
    Ok(files)
}

/// A window as it usually is: the medians of the whole stream.
fn example(bundle: &Bundle) -> Vec<f64> {
    let profile = bundle.profiles.get(crate::rows::WHOLE_STREAM);
    profile.map_or_else(
        || vec![0.0; bundle.features.len()],
        |profile| profile.overall.iter().map(|usual| usual.median).collect(),
    )
}

fn input_example(bundle: &Bundle) -> serde_json::Value {
    json!({ "columns": bundle.features, "data": [example(bundle)] })
}

fn serving_example(bundle: &Bundle) -> serde_json::Value {
    json!({ "dataframe_split": input_example(bundle) })
}

/// YAML, written by hand: every value is a number, a plain word, or quoted JSON without a single quote in it.
fn mlmodel(bundle: &Bundle, bytes: &[u8]) -> String {
    let column = |name: &String| json!({ "type": "double", "name": name, "required": true });
    let inputs: Vec<_> = bundle.features.iter().map(column).collect();
    let tensor = |name: &str, dtype: &str| json!({ "type": "tensor", "name": name, "tensor-spec": { "dtype": dtype, "shape": [-1, 1] } });
    let outputs = json!([tensor("label", "int64"), tensor("scores", "float32")]);
    let quoted = |value: serde_json::Value| format!("'{}'", value.to_string().replace('\'', "''"));
    let digest = Bundle::digest_of(bytes);
    let fitted = jiff::Timestamp::from_second(bundle.origin.interval.1).unwrap_or_default();
    let created = fitted.strftime("%Y-%m-%d %H:%M:%S.000000");
    format!(
        "artifact_path: {path}\n\
         flavors:\n\
         \x20 onnx:\n\
         \x20   code: null\n\
         \x20   data: model.onnx\n\
         \x20   onnx_version: {ONNX_VERSION}\n\
         \x20   providers:\n\
         \x20   - CPUExecutionProvider\n\
         \x20 python_function:\n\
         \x20   data: model.onnx\n\
         \x20   env:\n\
         \x20     conda: conda.yaml\n\
         \x20     virtualenv: python_env.yaml\n\
         \x20   loader_module: mlflow.onnx\n\
         \x20   python_version: {PYTHON_VERSION}\n\
         \x20 smartlog:\n\
         \x20   bundle: {FILE}\n\
         \x20   digest: {digest}\n\
         \x20   program: {program}\n\
         mlflow_version: {MLFLOW_VERSION}\n\
         model_size_bytes: {size}\n\
         model_uuid: {uuid}\n\
         saved_input_example_info:\n\
         \x20 artifact_path: input_example.json\n\
         \x20 serving_input_path: serving_input_example.json\n\
         \x20 type: dataframe\n\
         \x20 pandas_orient: split\n\
         signature:\n\
         \x20 inputs: {inputs}\n\
         \x20 outputs: {outputs}\n\
         \x20 params: null\n\
         utc_time_created: '{created}'\n",
        path = crate::ARTIFACT_PATH,
        program = quoted(json!(bundle.origin.program)),
        size = bytes.len(),
        uuid = &digest[..32],
        inputs = quoted(json!(inputs)),
        outputs = quoted(outputs),
    )
}

fn conda() -> String {
    let pip: String = REQUIREMENTS.iter().map(|line| format!("  - {line}\n")).collect();
    format!(
        "channels:\n- conda-forge\ndependencies:\n- python={PYTHON_VERSION}\n- pip\n- pip:\n{pip}name: mlflow-env\n"
    )
}

fn python_env() -> String {
    format!("python: {PYTHON_VERSION}\nbuild_dependencies:\n- pip\ndependencies:\n- -r requirements.txt\n")
}
