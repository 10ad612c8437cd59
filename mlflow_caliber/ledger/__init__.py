"""Who did what in the registry: a log that is only appended to, each entry chained to the one before it.

It lies in the registry's own database, so that an act and its entry are one transaction. Each entry holds the hash of
the one before it, and is signed when there are keys; :meth:`Ledger.verify` finds what was edited, taken out, put in or
cut off. What entries mean is not known here: :mod:`mlflow_caliber.gate` folds them.
"""

from mlflow_caliber.exceptions import OptionalDependencyError

try:
    import sqlalchemy  # noqa: F401
except ModuleNotFoundError as error:
    raise OptionalDependencyError("The ledger needs SQLAlchemy: pip install 'mlflow-caliber[live]'.") from error

from mlflow_caliber.ledger._chain import Verification, verify_chain
from mlflow_caliber.ledger._entry import ACTIONS, LARGEST_DETAIL, Entry, Head
from mlflow_caliber.ledger._file import export_ledger, verify_file
from mlflow_caliber.ledger._ledger import Ledger, open_ledger

__all__ = [
    "ACTIONS",
    "LARGEST_DETAIL",
    "Entry",
    "Head",
    "Ledger",
    "Verification",
    "export_ledger",
    "open_ledger",
    "verify_chain",
    "verify_file",
]
