"""When the evaluator takes part: named, or with a config of its own, and never uninvited."""

import pytest

FEATURES = ["age", "income"]
QUIET = {"log_model_explainability": False}


@pytest.fixture
def artifacts():
    from mlflow import MlflowClient

    return lambda run_id: {item.path for item in MlflowClient().list_artifacts(run_id)}


def is_absent(done, artifacts):
    names = [*done.metrics, *done.run.data.metrics, *done.run.data.tags, *artifacts(done.run_id)]
    return not any("caliber" in name for name in names)


@pytest.fixture
def taking_part(store):
    """The evaluators that MLflow would run for ``evaluators=None``."""
    from mlflow.models.evaluation.base import resolve_evaluators_and_configs

    def taking_part(config, model_type="classifier"):
        return {evaluator.name for evaluator in resolve_evaluators_and_configs(None, config, model_type)}

    return taking_part


FOREIGN = [
    None,
    {},
    QUIET,
    QUIET | {"pos_label": 1},
    {"pos_label": 1},
    {"default": QUIET},
    {"default": QUIET, "caliber": {}},
    {"default": QUIET, "caliber": None},
    {"default": QUIET, "caliber": 7},
    {"default": QUIET, "caliber": {"segment": ["no such key"]}},
    QUIET | {"segments": ["no such column"]},
    QUIET | {"n_bins": -1},
    {"caliber": "segments"},
]


@pytest.mark.parametrize("config", FOREIGN)
def test_uninvited_it_stays_out(taking_part, config):
    assert {"classifier"} <= taking_part(config) <= {"classifier", "shap"}


@pytest.mark.parametrize(
    "config", [{"segments": ["region"]}, {"default": {}, "caliber": {"n_bins": 5, "pos_label": 1}}]
)
def test_uninvited_it_takes_part_with_a_config_of_its_own(taking_part, config):
    assert "caliber" in taking_part(config)
    assert "caliber" not in taking_part(config, "regressor")
    assert "caliber" not in taking_part(config, None)


def test_an_evaluation_without_an_invitation_has_nothing_of_ours(plain, features, evaluate, artifacts):
    done = evaluate(plain.model_uri, features, evaluators=None, config=QUIET | {"pos_label": 1})
    assert is_absent(done, artifacts)
    assert "accuracy_score" in done.metrics


def test_an_evaluation_with_a_config_has_both(caliber, people, evaluate):
    import mlflow

    model = mlflow.pyfunc.load_model(caliber.model_uri, model_config={"output": "label"})
    config = {"default": QUIET, "caliber": {"segments": ["region"], "sample_weight": "w"}}
    done = evaluate(model, people, evaluators=None, config=config)
    assert {"accuracy_score", "caliber_ece", "caliber/segment/region:north/ece"} <= set(done.metrics)


def test_a_regressor_and_no_model_type_are_not_ours(evaluate, people, base, artifacts):
    from mlflow.metrics import mae

    def predict(frame):
        return base.predict_proba(frame)[:, 1]

    frame = people[[*FEATURES, "y"]].astype(float)
    regressor = evaluate(predict, frame, model_type="regressor", evaluators=None, config=QUIET)
    assert is_absent(regressor, artifacts)
    untyped = evaluate(predict, frame, model_type=None, evaluators=None, extra_metrics=[mae()], config=QUIET)
    assert is_absent(untyped, artifacts)
    named = evaluate(
        predict, frame, model_type="regressor", evaluators=["default", "caliber"], config={"default": QUIET}
    )
    assert is_absent(named, artifacts)


@pytest.mark.parametrize("nested", [False, True])
def test_wrong_settings_are_a_sentence_of_mlflow(plain, features, evaluate, nested):
    from mlflow.exceptions import MlflowException

    wrong = {"segment": ["region"]}
    with pytest.raises(
        MlflowException, match=r"caliber evaluator: evaluator_config: .*Did you mean 'segments'"
    ) as said:
        evaluate(plain.model_uri, features, config={"caliber": wrong} if nested else wrong)
    assert said.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_list_of_evaluators_takes_no_flat_config(plain, features, evaluate):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="must be a dict containing mapping from evaluator name"):
        evaluate(plain.model_uri, features, evaluators=["default", "caliber"], config={"segments": ["region"]})


def test_the_question_alone_is_answered_by_the_config():
    from mlflow_caliber.evaluator import CaliberEvaluator

    def ask(model_type="classifier", config=None):
        return CaliberEvaluator.can_evaluate(model_type=model_type, evaluator_config=config)

    assert ask(config={"segments": ["region"]})
    assert ask(config={"segments": ["region"], "pos_label": 1})
    for config in (
        None,
        {},
        7,
        "segments",
        ["segments"],
        {"pos_label": 1},
        {"segments": [], "average": "macro"},
        {1: 2},
    ):
        assert not ask(config=config)
    assert not ask("regressor", {"segments": ["region"]})
    assert not ask(None, {"segments": ["region"]})


def test_mlflow_finds_it_by_its_entry_point():
    from importlib.metadata import entry_points

    (entry,) = entry_points(group="mlflow.model_evaluator", name="caliber")
    from mlflow_caliber.evaluator import CaliberEvaluator

    assert entry.load() is CaliberEvaluator
