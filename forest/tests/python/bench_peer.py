"""bench_peer.py ROWS.f64 FEATURES MODEL.onnx: does what a line of stdin names, prints the seconds it took.

  versions           the packages' versions
  fit                scikit-learn: fit on all rows
  fit_contamination  the same with contamination=0.05, which scores all rows
  batch              scikit-learn: score_samples of all rows
  row                scikit-learn: p50 and p99 of score_samples of one row
  onnx_batch         onnxruntime on the exported forest: all rows
  onnx_row           onnxruntime on the exported forest: p50 and p99 of one row
One thread each.
"""
import json, sys, time
import numpy as np, onnxruntime, sklearn
from sklearn.ensemble import IsolationForest

x = np.fromfile(sys.argv[1], dtype="<f8").reshape(-1, int(sys.argv[2]))
x32 = x.astype(np.float32)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[3], options, providers=["CPUExecutionProvider"])


def fit(**more):
    return IsolationForest(n_estimators=100, max_samples=256, random_state=1, n_jobs=1, **more).fit(x)


def seconds(work):
    start = time.perf_counter()
    work()
    return [time.perf_counter() - start]


def each_row(work, rows):
    times = sorted(seconds(lambda: work(i))[0] for i in range(rows))
    return [times[rows // 2], times[rows * 99 // 100]]


forest = fit()
jobs = {
    "versions": lambda: [sklearn.__version__, onnxruntime.__version__],
    "fit": lambda: seconds(fit),
    "fit_contamination": lambda: seconds(lambda: fit(contamination=0.05)),
    "batch": lambda: seconds(lambda: forest.score_samples(x)),
    "row": lambda: each_row(lambda i: forest.score_samples(x[i:i + 1]), 200),
    "onnx_batch": lambda: seconds(lambda: session.run(["scores"], {"X": x32})),
    "onnx_row": lambda: each_row(lambda i: session.run(["scores"], {"X": x32[i:i + 1]}), 2000),
}
for line in sys.stdin:
    print(json.dumps(jobs[line.strip()]()), flush=True)
