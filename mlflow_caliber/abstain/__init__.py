"""Which predictions are withheld and go to a person.

By a threshold that is set, that follows from costs or from the room there is for reviews, or that is certified to keep
the error rate of answers below a limit.
"""

from __future__ import annotations

from mlflow_caliber.abstain._certificate import Certificate
from mlflow_caliber.abstain._policy import AbstainPolicy

__all__ = ["AbstainPolicy", "Certificate"]
