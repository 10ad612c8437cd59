"""A process of its own that loads saved models and predicts: ``python predict_saved.py jobs.pickle answers.pickle``."""

import pickle
import sys
from pathlib import Path


def answers(folder, rows):
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(folder)
    return {
        "frame": model.predict(rows),
        "label": model.predict(rows, params={"output": "label"}),
        "proba": model.predict(rows, params={"output": "proba"}),
    }


if __name__ == "__main__":
    jobs = pickle.loads(Path(sys.argv[1]).read_bytes())
    found = {name: answers(folder, rows) for name, (folder, rows) in jobs.items()}
    found["modules"] = sorted(sys.modules)
    Path(sys.argv[2]).write_bytes(pickle.dumps(found))
