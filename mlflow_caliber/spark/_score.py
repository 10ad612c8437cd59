"""Scoring a Spark frame with a saved caliber model: MLflow's UDF, in the columns of the prediction frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_caliber.exceptions import InvalidInputError
from mlflow_caliber.spark._rows import check_frame, column_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

__all__ = ["score"]

_SAID = "caliber_said"


def score(
    df: DataFrame,
    model_uri: str,
    *,
    columns: Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
    env_manager: str = "local",
) -> DataFrame:
    """The rows of a frame, with the columns of the model's prediction frame beside them.

    Parameters
    ----------
    df : pyspark.sql.DataFrame
        The features.
    model_uri : str
        A caliber model, such as ``models:/credit/1``.
    columns : sequence of str, optional
        The model's inputs; by default the columns of its signature that the frame has.
    params : mapping, optional
        As for ``predict``, such as ``{"abstain_threshold": 0.8}``; the same for all rows.
    env_manager : str, default="local"
        As for :func:`mlflow.pyfunc.spark_udf`, which this calls.

    Returns
    -------
    pyspark.sql.DataFrame
        Not computed yet: Spark scores the rows when somebody asks for them, and again when somebody asks again.

    Raises
    ------
    InvalidInputError
        If the model gives no prediction frame, or the frame has a column of that name already.

    Notes
    -----
    ``spark_udf`` reads the struct from the model's signature. ``result_type="double"`` must not be used: it gives the
    leftmost column that is a number, which is the label.

    Examples
    --------
    >>> scored = score(spark.read.parquet("s3://lake/today"), "models:/credit/1")  # doctest: +SKIP
    >>> scored.where("not abstained").write.parquet("s3://lake/scored")  # doctest: +SKIP
    """
    import mlflow
    from pyspark.sql import functions as sf
    from pyspark.sql.types import StructType

    check_frame(df)
    udf = mlflow.pyfunc.spark_udf(
        df.sparkSession, model_uri, env_manager=env_manager, params=None if params is None else dict(params)
    )
    if not isinstance(udf.returnType, StructType) or "probability" not in udf.returnType.names:
        raise InvalidInputError(f"model_uri must be a model that gives a prediction frame, got {udf.returnType}.")
    taken = [name for name in (*udf.returnType.names, _SAID) if name in df.columns]
    if taken:
        raise InvalidInputError(f"df must not have columns of the prediction frame already, got {', '.join(taken)}.")
    names = _inputs(df, model_uri) if columns is None else columns
    given = sf.struct(*(column_of(df, name, "columns").alias(name) for name in names))
    own = [column_of(df, name, "df") for name in df.columns]
    return df.withColumn(_SAID, udf(given)).select(*own, f"{_SAID}.*")


def _inputs(df: DataFrame, model_uri: str) -> list[str]:
    from mlflow.models import get_model_info

    schema = get_model_info(model_uri).signature.inputs
    if schema is None or not schema.has_input_names():
        return list(df.columns)
    absent = [name for name in schema.required_input_names() if name not in df.columns]
    if absent:
        raise InvalidInputError(
            f"df must hold the columns of the model's signature, got none of: {', '.join(absent[:20])}."
        )
    return [name for name in schema.input_names() if name in df.columns]
