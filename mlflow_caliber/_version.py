"""The version, in the one place that the build, the saved models and the reports read it from."""

__version__ = "0.1.0"
