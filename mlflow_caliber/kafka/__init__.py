"""Kafka: predictions and outcomes from a topic into the store, and prediction frames into a topic.

Offsets are committed after what they stand for is done: rows stored, dead letters and frames delivered. What is read
twice after a crash changes nothing, because ids, times and dead letters follow from the message and its place. See
``docs/user-guide/kafka.md``. confluent-kafka is imported when a client is made, and nowhere else.
"""

from mlflow_caliber.kafka._run import consume, score
from mlflow_caliber.kafka._sender import kafka_sender
from mlflow_caliber.kafka._settings import KafkaSettings, read_properties
from mlflow_caliber.kafka._tally import Tally

__all__ = ["KafkaSettings", "Tally", "consume", "kafka_sender", "read_properties", "score"]
