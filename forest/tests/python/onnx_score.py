"""onnx_score.py MODEL.onnx ROWS.f32 FEATURES: checks the model, scores the rows, prints one JSON object."""
import json, sys
import numpy as np, onnx, onnxruntime

model, rows, features = sys.argv[1], sys.argv[2], int(sys.argv[3])
onnx.checker.check_model(model, full_check=True)
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
x = np.fromfile(rows, dtype="<f4").reshape(-1, features)
label, scores = session.run(["label", "scores"], {"X": x})
describe = lambda values: [[v.name, v.type, v.shape] for v in values]
print(json.dumps({
    "inputs": describe(session.get_inputs()),
    "outputs": describe(session.get_outputs()),
    "shapes": [list(label.shape), list(scores.shape)],
    "label": label.ravel().tolist(),
    "scores": scores.ravel().astype(float).tolist(),
}))
