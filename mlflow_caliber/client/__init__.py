"""A client of the live service: :class:`CaliberClient` sends predictions and outcomes and asks how models are.

It needs ``requests``, which MLflow brings, and nothing of the service itself.
"""

from mlflow_caliber.client._client import CaliberClient
from mlflow_caliber.client._rows import Recorded

__all__ = ["CaliberClient", "Recorded"]
