"""What every recalibrator does with the forecasts that it issued, whatever it learns from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.online._forecast import Forecast, Learned
from mlflow_caliber.online._ledger import Ledger
from mlflow_caliber.online._numbers import check_label

__all__ = ["Recalibrator"]

F = TypeVar("F", bound=Forecast)


class Recalibrator(ABC, Generic[F]):
    """Forecasts wait in a ledger for their outcomes, and are learned in the order in which they were issued."""

    _kind: ClassVar[type[Forecast]] = Forecast
    _ledger: Ledger[F]

    @property
    def n_issued(self) -> int:
        return self._ledger.issued

    @property
    def n_outstanding(self) -> int:
        return self._ledger.outstanding()

    def update(self, forecast: F, y: int) -> list[Learned]:
        """Note an outcome, and learn whatever is next in the order of the forecasts.

        Parameters
        ----------
        forecast : Forecast
            What :meth:`forecast` returned, possibly by way of ``to_dict`` and ``from_dict``.
        y : int
            0 or 1.

        Returns
        -------
        list of Learned
            Forecasts with their outcomes, oldest first: none while an older forecast waits for its outcome, several
            when the one came that they waited for. An alarm that reads them in this order stays valid under any delay.

        Raises
        ------
        InvalidInputError
            A forecast that was not issued here, or whose outcome has come already; an outcome other than 0 and 1.
            (A forecast that was given up may still get its outcome: it is not learned.)
        """
        self._ledger.mark(self._checked(forecast), check_label(y))
        return self._release()

    def awaits(self, forecast: F) -> bool:
        """Whether the outcome of this forecast would be learned: it has none yet, and was not given up."""
        return self._ledger.awaits(self._checked(forecast))

    def expire(self, forecast: F) -> list[Learned]:
        """Give up a forecast whose outcome will not come, so that those after it need not wait for it.

        Parameters
        ----------
        forecast : Forecast
            What :meth:`forecast` returned.

        Returns
        -------
        list of Learned
            What had waited for it, oldest first.

        Raises
        ------
        InvalidInputError
            A forecast that was not issued here, has an outcome, or was given up before.
        """
        self._ledger.expire(self._checked(forecast))
        return self._release()

    @abstractmethod
    def _release(self) -> list[Learned]:
        """Learn what the ledger lets go."""

    def _checked(self, forecast: Any) -> F:
        if not isinstance(forecast, self._kind):
            raise InvalidInputError(f"forecast must be what forecast() returned, got a {type(forecast).__name__}.")
        return forecast  # type: ignore[return-value]  # F is the kind
