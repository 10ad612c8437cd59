"""What a client of MLflow is told that may not do something."""

import pytest
from mlflow.exceptions import MlflowException


def refused(call, match, code="PERMISSION_DENIED"):
    """The call is refused with a sentence and an error code."""
    with pytest.raises(MlflowException, match=match) as caught:
        call()
    assert caught.value.error_code == code
