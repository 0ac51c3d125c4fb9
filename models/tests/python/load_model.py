"""load_model.py MODEL ROWS.json: scores rows with MLflow's own loaders, prints what they say as one JSON object.

MODEL is a folder or a URI (models:/name@alias); ROWS.json is {"columns": [...], "data": [[...], ...]}.
"""
import json, sys, warnings

warnings.filterwarnings("ignore")
import mlflow, mlflow.artifacts, mlflow.onnx, mlflow.pyfunc, numpy as np, onnxruntime, pandas as pd
from mlflow.models import Model

uri, rows = sys.argv[1], json.load(open(sys.argv[2]))
frame = pd.DataFrame(rows["data"], columns=rows["columns"])
pyfunc = mlflow.pyfunc.load_model(uri)
of_pyfunc = pyfunc.predict(frame)
graph = mlflow.onnx.load_model(uri)
session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
label, scores = session.run(["label", "scores"], {"X": frame.to_numpy(np.float32)})
model = pyfunc.metadata
folder = mlflow.artifacts.download_artifacts(uri) if ":/" in uri else uri
example = model.load_input_example(folder)
try:
    pyfunc.predict(frame.rename(columns={rows["columns"][0]: "something_else"}))
    refused = "not refused"
except Exception as error:
    refused = str(error)
print(json.dumps({
    "pyfunc_scores": np.asarray(of_pyfunc["scores"]).ravel().astype(float).tolist(),
    "pyfunc_labels": np.asarray(of_pyfunc["label"]).ravel().astype(int).tolist(),
    "onnx_scores": scores.ravel().astype(float).tolist(),
    "inputs": model.signature.inputs.input_names(),
    "example": example.to_dict("split")["data"],
    "refused": refused,
}))
