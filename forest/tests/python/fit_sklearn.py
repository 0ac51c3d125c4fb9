"""fit_sklearn.py ROWS.f64 FEATURES: fits scikit-learn's forest with several settings and prints, for each, the
forest as the import reads it and what scikit-learn says of the rows."""
import json, sys
import numpy as np
from sklearn.ensemble import IsolationForest

x = np.fromfile(sys.argv[1], dtype="<f8").reshape(-1, int(sys.argv[2]))
settings = [
    dict(),
    dict(contamination=0.05),
    dict(max_features=2, bootstrap=True),
    dict(max_samples=1.0, n_estimators=7),
    dict(max_samples=2, n_estimators=3),
    dict(max_features=0.5, contamination=0.5),
]


def export(forest):
    trees = []
    for estimator, features in zip(forest.estimators_, forest.estimators_features_):
        t = estimator.tree_
        trees.append({
            "feature": [int(features[f]) if f >= 0 else -2 for f in t.feature],
            "threshold": t.threshold.tolist(),
            "left": t.children_left.tolist(),
            "right": t.children_right.tolist(),
            "n_node_samples": t.n_node_samples.tolist(),
        })
    return {"n_features": forest.n_features_in_, "max_samples": int(forest.max_samples_),
            "n_estimators": len(trees), "offset": float(forest.offset_), "trees": trees}


for setting in settings:
    forest = IsolationForest(random_state=3, **setting).fit(x)
    print(json.dumps({
        "setting": repr(setting),
        "forest": export(forest),
        "score_samples": forest.score_samples(x).tolist(),
        "decision_function": forest.decision_function(x).tolist(),
        "predict": forest.predict(x).tolist(),
    }))
