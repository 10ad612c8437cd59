"""What others make Python say whenever they look at a data set or load a flavor, and what no test is about."""

from pathlib import Path

import pytest

OF_MLFLOW = (
    "ignore:.*Hint. Inferred schema contains integer:UserWarning",
    "ignore:Starting with pandas version 4.0 all arguments of all:DeprecationWarning",
    "ignore:_ImportHookChainedLoader.exec_module.. not found:ImportWarning",
    "ignore:the load_module.. method is deprecated:DeprecationWarning",
)
OF_SPARK = (
    "ignore:PySpark does not yet fully support pandas:FutureWarning",
    "ignore:The copy keyword is deprecated and will be removed:DeprecationWarning",
    "ignore:.*distutils Version classes are deprecated:DeprecationWarning",
)


def quieten(items, conftest, warnings):
    """Let the tests beside this conftest pass over these warnings."""
    for item in items:
        if item.path.is_relative_to(Path(conftest).parent):
            for warning in warnings:
                item.add_marker(pytest.mark.filterwarnings(warning))
