"""What a consumer is told: where Kafka is, which topics, which group, and librdkafka's own properties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_caliber._validation import check_count, check_number
from mlflow_caliber.exceptions import ConfigError, InvalidInputError

__all__ = ["KafkaSettings", "hidden", "read_properties"]

# What the guarantees rest on, and what has an option of its own.
_OURS = {
    "bootstrap.servers": "--bootstrap",
    "metadata.broker.list": "--bootstrap",
    "group.id": "--group",
    "enable.auto.commit": "none: offsets are committed after the rows are stored",
    "auto.commit.enable": "none: offsets are committed after the rows are stored",
    "auto.commit.interval.ms": "none: offsets are committed after the rows are stored",
    "enable.auto.offset.store": "none: offsets are committed after the rows are stored",
    "enable.partition.eof": "none: it is set where it is needed",
    "enable.idempotence": "none: dead letters and frames keep their order",
    "transactional.id": "none: what was delivered is read back instead",
}
_SECRET = ("password", "secret", "token", "jaas", "pem", "oauthbearer.config", "sasl.oauthbearer")


@dataclass(frozen=True, kw_only=True)
class KafkaSettings:
    """Where messages come from, and where those go that cannot be taken.

    Parameters
    ----------
    bootstrap : str
        ``host:port``, several with commas between.
    topic : str
        What is read.
    group : str
        The consumer group; its members share the partitions.
    dead_letters : str, optional
        Where messages go that cannot be taken; by default ``<topic>.dead``.
    batch : int
        So many messages at most in one transaction.
    starting : float
        Seconds for which Kafka and the topic are waited for at the start.
    lag_every : float
        Seconds between two lines about the lag.
    properties : mapping, optional
        Any property of librdkafka: TLS, SASL, timeouts.

    Examples
    --------
    >>> KafkaSettings(bootstrap="kafka:9092", topic="inference-events", group="caliber").dead_topic
    'inference-events.dead'
    """

    bootstrap: str
    topic: str
    group: str
    dead_letters: str | None = None
    batch: int = 5_000
    starting: float = 60.0
    lag_every: float = 30.0
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in ("bootstrap", "topic", "group"):
            if not getattr(self, name):
                raise InvalidInputError(f"{name} must not be empty.")
        if self.dead_topic == self.topic:
            raise InvalidInputError(f"dead_letters must be another topic than the one that is read, {self.topic!r}.")
        check_count(self.batch, "batch")
        for name in ("starting", "lag_every"):
            if check_number(getattr(self, name), name) < 0.0:
                raise InvalidInputError(f"{name} must be at least 0 seconds, got {getattr(self, name):g}.")
        for key in self.properties.keys() & _OURS.keys():
            raise ConfigError(f"The property {key} is set by mlflow-caliber itself; its option is {_OURS[key]}.")

    @property
    def dead_topic(self) -> str:
        """Where messages go that cannot be taken."""
        return self.dead_letters or f"{self.topic}.dead"


def read_properties(pairs: Iterable[str], file: Path | None = None) -> dict[str, str]:
    """Properties as ``key=value``: those of a file, one a line with # for comments, and then these.

    Examples
    --------
    >>> read_properties(["security.protocol=SASL_SSL", "sasl.username=caliber"])
    {'security.protocol': 'SASL_SSL', 'sasl.username': 'caliber'}
    """
    lines: list[str] = []
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(f"The properties must be a readable text file, got {str(file)!r}.") from error
    found: dict[str, str] = {}
    for i, line in enumerate([*lines, *pairs]):
        if i < len(lines) and (not line.strip() or line.lstrip().startswith("#")):
            continue
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            # Not shown: what has no = may be a password that lost its key.
            where = f"line {i + 1} of {str(file)!r}" if i < len(lines) else f"--property number {i - len(lines) + 1}"
            raise ConfigError(f"A property must look like key=value, and {where} does not.")
        found[key.strip()] = value.strip()
    return found


def hidden(text: str, properties: Mapping[str, str]) -> str:
    """The text without the values of properties that are secret."""
    for key, value in properties.items():
        if value and any(word in key for word in _SECRET):
            text = text.replace(value, "***")
    return text
