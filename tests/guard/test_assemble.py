"""A policy that would guard nothing does not start a server."""

import pytest

from mlflow_caliber.exceptions import ConfigError
from mlflow_caliber.gate import GatePolicy
from mlflow_caliber.guard._assemble import _check_guardable_by, _check_without_people

RULES = [{"metric": "caliber_brier", "max": 0.3}]
VERSUS = [{"metric": "caliber_brier", "versus": "baseline", "max_regression": 0.0}]


@pytest.mark.parametrize(
    ("targets", "match"),
    [
        ({"champion": {"rules": VERSUS}}, "anybody could point 'baseline' elsewhere"),
        ({"champion": {"rules": RULES}, "previous": {"rules": RULES}}, "leave 'previous' to the former holders"),
        ({"pre-prod": {"rules": RULES}, "pre_prod": {"rules": RULES}}, "told apart without regard to case"),
    ],
)
def test_targets_that_anybody_could_move(targets, match):
    with pytest.raises(ConfigError, match=match):
        _check_guardable_by(GatePolicy.from_dict({"targets": targets}))


def test_approvals_need_people():
    policy = GatePolicy.from_dict({"targets": {"champion": {"rules": RULES, "approvals": {"count": 1}}}})
    _check_guardable_by(policy)
    with pytest.raises(ConfigError, match="people whom the server knows"):
        _check_without_people(policy)
