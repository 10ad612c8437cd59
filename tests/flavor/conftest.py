"""Saved models of every kind of base, made once: each case is what a user would hand to ``save_model``."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

N_FIT, N_CALIBRATION, N_TEST = 200, 200, 60


@dataclass
class Case:
    """A base model, the arguments of ``save_model``, rows to predict, and the base's own probabilities of them."""

    model: object
    rows: object
    calibration_data: tuple | None
    raw: np.ndarray
    kwargs: dict = field(default_factory=dict)


@dataclass
class Data:
    """Numbers with gaps, a category, a segment, and labels that depend on them; three disjoint parts."""

    X: pd.DataFrame
    y: np.ndarray

    def part(self, k, columns=None):
        bounds = np.cumsum([0, N_FIT, N_CALIBRATION, N_TEST])
        rows = slice(bounds[k], bounds[k + 1])
        X = self.X if columns is None else self.X[list(columns)]
        return X.iloc[rows].reset_index(drop=True), self.y[rows]


NUMBERS = ("age", "income", "tenure")


def make_data(seed=0):
    rng = np.random.default_rng(seed)
    n = N_FIT + N_CALIBRATION + N_TEST
    X = pd.DataFrame(
        {
            "age": rng.normal(40.0, 10.0, n),
            "income": rng.lognormal(1.0, 0.5, n),
            "tenure": rng.integers(0, 30, n).astype(float),
            "job": rng.choice(["clerk", "smith", "nurse"], n),
            "region": rng.choice(["north", "south"], n),
        }
    )
    logit = 0.1 * (X["age"] - 40.0) + X["income"] - 3.0 + 0.8 * (X["job"] == "smith")
    return Data(X, (rng.random(n) < 1.0 / (1.0 + np.exp(-logit))).astype(int))


@pytest.fixture(scope="session")
def data():
    return make_data()


def _mixed_pipeline():
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = ColumnTransformer([("n", StandardScaler(), list(NUMBERS)), ("c", OneHotEncoder(), ["job"])])
    return make_pipeline(columns, LogisticRegression())


def _python_model(columns):
    """A PythonModel that cloudpickle takes by value, as one from a notebook."""
    import mlflow.pyfunc

    class Rule(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input: pd.DataFrame, params=None):
            p = 1.0 / (1.0 + np.exp(-0.1 * (model_input["age"].to_numpy() - 40.0)))
            return pd.DataFrame({"no": 1.0 - p, "yes": p})[columns]

    return Rule()


def _log_plain(model, X, name):
    """A plain MLflow model, as somebody else registered it."""
    import mlflow.sklearn
    from mlflow.models import infer_signature

    info = mlflow.sklearn.log_model(
        model,
        name="plain",
        signature=infer_signature(X),
        pip_requirements=["scikit-learn"],
        skops_trusted_types=["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
        registered_model_name=name,
    )
    return f"models:/{name}/{info.registered_model_version}"


def _estimator_case(model, fit, calibration, rows, **kwargs):
    """An estimator that is fitted, asked and calibrated with the same columns."""
    model.fit(*fit)
    return Case(model, rows, calibration, model.predict_proba(rows), kwargs)


def numeric_cases(data):
    """Bases on numbers only, fitted on a DataFrame or a bare array, labels of every type."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    (X0, y0), (X1, y1), (X2, _) = (data.part(k, NUMBERS) for k in range(3))
    words = np.array(["no", "yes"])
    single = [X.astype(np.float32) for X in (X0, X1, X2)]

    def logistic():
        return LogisticRegression(max_iter=1000)

    def hist():
        return HistGradientBoostingClassifier(max_iter=10)

    bare, holed = logistic().fit(X0.to_numpy(), y0), hist().fit(X0.to_numpy(), y0)
    gaps = X2.assign(tenure=X2["tenure"].mask(X2["tenure"] < 5))
    nullable = X1.assign(tenure=X1["tenure"].astype("Int64").mask(X1["tenure"] < 2))
    return {
        "logistic": _estimator_case(logistic(), (X0, y0), (X1, y1), X2),
        "random_forest": _estimator_case(RandomForestClassifier(10, random_state=0), (X0, y0), (X1, y1), X2),
        "hist_gradient_boosting": _estimator_case(hist(), (X0, y0), (X1, y1), X2.mask(X2 < 2.0)),
        "fitted_on_array": Case(bare, X2, (X1, y1), bare.predict_proba(X2.to_numpy()), {"calibrator": "sigmoid"}),
        "array_in": Case(bare, X2.to_numpy(), (X1.to_numpy(), y1), bare.predict_proba(X2.to_numpy())),
        "float32": _estimator_case(logistic(), (single[0], y0), (single[1], y1), single[2]),
        "string_labels": _estimator_case(logistic(), (X0, words[y0]), (X1, words[y1]), X2),
        "bool_labels": _estimator_case(logistic(), (X0, y0 == 1), (X1, y1 == 1), X2),
        "positive_class_first": _estimator_case(
            logistic(), (X0, words[y0]), (X1, words[y1]), X2, pos_label="no", calibrator="centered_isotonic"
        ),
        "nullable_integers": Case(holed, gaps, (nullable, y1), holed.predict_proba(gaps.to_numpy())),
    }


def boosting_cases(data):
    """The libraries with a flavor of their own, as classifiers and as bare boosters."""
    import catboost
    import lightgbm
    import xgboost

    (X0, y0), (X1, y1), (X2, _) = (data.part(k, NUMBERS) for k in range(3))
    (M0, _), (M1, _), (M2, _) = (data.part(k, (*NUMBERS, "job")) for k in range(3))
    backwards = list(NUMBERS[::-1])
    words = np.array(["no", "yes"])
    quiet = {"verbosity": -1, "num_threads": 1}
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 2}, xgboost.DMatrix(X0, y0), 10)
    light = lightgbm.train({"objective": "binary", **quiet}, lightgbm.Dataset(X0, y0), 10)
    unnamed = xgboost.XGBClassifier(n_estimators=10).fit(X0.to_numpy(), y0)
    cat = catboost.CatBoostClassifier(iterations=10, verbose=False, allow_writing_files=False)
    with_jobs = cat.copy().fit(M0, y0, cat_features=["job"])
    return {
        "xgboost": _estimator_case(xgboost.XGBClassifier(n_estimators=10), (X0, y0), (X1, y1), X2),
        "xgboost_with_names_of_labels": Case(
            unnamed, X2, (X1, words[y1]), unnamed.predict_proba(X2.to_numpy()), {"classes": words}
        ),
        "xgboost_booster": Case(
            booster, X2[backwards], (X1[backwards], y1), _two_columns(booster.predict(xgboost.DMatrix(X2)))
        ),
        "lightgbm": _estimator_case(lightgbm.LGBMClassifier(n_estimators=10, **quiet), (X0, y0), (X1, y1), X2),
        "lightgbm_booster": Case(
            light,
            X2[backwards],
            (X1[backwards], words[y1]),
            _two_columns(light.predict(X2)),
            {"classes": ["no", "yes"]},
        ),
        "catboost": _estimator_case(cat.copy(), (X0, words[y0]), (X1, words[y1]), X2),
        "catboost_with_categories": Case(with_jobs, M2, (M1, y1), with_jobs.predict_proba(M2)),
    }


def _two_columns(p):
    p = np.asarray(p, dtype=np.float64)
    return np.column_stack((1.0 - p, p))


def mixed_cases(data):
    """Pipelines, strings, segments, generic models, URIs, calibrated models, ten classes."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression
    from sklearn.naive_bayes import GaussianNB

    import mlflow_caliber as caliber
    from mlflow_caliber.model import fit_calibrator

    (X0, y0), (X1, y1), (X2, _) = (data.part(k) for k in range(3))
    names, with_region = [*NUMBERS], [*NUMBERS, "region"]
    (N0, N1, N2), (R1, R2) = (X[names] for X in (X0, X1, X2)), (X[with_region] for X in (X1, X2))
    policy = caliber.AbstainPolicy(0.6, segment_thresholds={"south": 0.9})
    segments = {"policy": policy, "segment_column": "region"}

    base = LogisticRegression(max_iter=1000).fit(N0, y0)
    bare = LogisticRegression(max_iter=1000).fit(N0.to_numpy(), y0)
    calibrated = caliber.CalibratedModel(
        base, fit_calibrator("isotonic", base.predict_proba(N1), y1, 0), policy=policy, pos_label=0
    )
    classifier = caliber.CaliberClassifier(FrozenEstimator(base), method="beta", abstain_threshold=0.7).fit(N1, y1)

    forest = HistGradientBoostingClassifier(max_iter=10).fit(N0, y0)
    plain, forest_raw = _log_plain(forest, N1, "plain-forest"), forest.predict_proba(N2)
    rule = _two_columns(1.0 / (1.0 + np.exp(-0.1 * (N2["age"].to_numpy() - 40.0))))
    digits, labels = load_digits(return_X_y=True)
    bayes = GaussianNB(var_smoothing=1e-3).fit(digits[:600], labels[:600])
    return {
        "pipeline": _estimator_case(_mixed_pipeline(), (X0, y0), (X1, y1), X2, **segments),
        "segment_is_no_feature": Case(
            bare, R2, (R1, y1), bare.predict_proba(N2.to_numpy()), {"calibrator": "isotonic", **segments}
        ),
        "python_model": Case(_python_model(["yes"]), N2, (N1, y1), rule, {"proba_column": "yes", "calibrator": "beta"}),
        "python_model_two_columns": Case(
            _python_model(["no", "yes"]),
            N2,
            (N1, np.array(["bad", "good"])[y1]),
            rule,
            {"proba_column": ["no", "yes"], "classes": ["bad", "good"]},
        ),
        "python_model_uri": Case(_save_python_model(), N2, (N1, y1), rule, {"proba_column": "yes"}),
        "uri": Case(plain, N2, (N1, y1), forest_raw),
        "uri_by_reference": Case(plain, N2, (N1, y1), forest_raw, {"bundle_base": False}),
        "calibrated_model": Case(calibrated, N2, None, base.predict_proba(N2)),
        "caliber_classifier": Case(classifier, N2, None, base.predict_proba(N2)),
        "ten_classes": Case(
            bayes,
            pd.DataFrame(digits[1200:1260]),
            (digits[600:1200], labels[600:1200], np.linspace(0.5, 1.5, 600)),
            bayes.predict_proba(digits[1200:1260]),
            {"policy": caliber.AbstainPolicy(0.5)},
        ),
    }


def _save_python_model():
    import tempfile

    import mlflow.pyfunc

    folder = tempfile.mkdtemp(dir=".") + "/model"
    mlflow.pyfunc.save_model(folder, python_model=_python_model(["yes"]), pip_requirements=["pandas"])
    return folder


@pytest.fixture(scope="session")
def saved(data, tmp_path_factory, isolated):
    """Every case, saved: name -> (case, folder)."""
    import mlflow_caliber as caliber

    folder = tmp_path_factory.mktemp("saved")
    cases = {**numeric_cases(data), **boosting_cases(data), **mixed_cases(data)}
    for name, case in cases.items():
        caliber.save_model(case.model, str(folder / name), calibration_data=case.calibration_data, **case.kwargs)
    return {name: (case, folder / name) for name, case in cases.items()}
