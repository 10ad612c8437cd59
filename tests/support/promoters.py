"""A process whose children promote without end, to be killed at any moment.

Run with the registry's address, a model's name and a policy; for each line of input it forks a child and says its pid.
"""

import itertools
import os
import sys
import time
import warnings
from dataclasses import replace

warnings.simplefilter("ignore")  # MLflow and its imports warn of themselves while they are imported


def prepared(uri: str, name: str, policy_file: str):
    """What decides, and the cases of two versions, decided before anybody is killed."""
    from mlflow import MlflowClient
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    from mlflow_caliber.gate import GatePolicy
    from mlflow_caliber.guard import Governor, Watch
    from mlflow_caliber.ledger import Ledger

    store, policy = SqlAlchemyStore(uri), GatePolicy.load(policy_file)
    ledger = Ledger(store.engine)
    governor = Governor(store.engine, MlflowClient(uri, uri), policy, ledger, actor=lambda: "mia")
    Watch(store.engine, policy, ledger, lambda: "mia").start()
    return store.engine, governor, {version: governor.examine(name, version, "champion") for version in "12"}


def promote_for_ever(governor, cases) -> None:
    # The decision takes most of the time, and a kill is to fall between the writes.
    from mlflow_caliber.guard import _governor as module

    put_tags = module.Registry.put_tags

    def slowly(self, version, tags):
        time.sleep(0.005)
        put_tags(self, version, tags)
        time.sleep(0.005)

    module.Registry.put_tags = slowly
    governor.examine = lambda name, version, target, *, evidence_run=None: _as_of_now(governor, cases[version])
    for version in itertools.cycle("12"):
        governor.promote(cases["1"].identity.name, version, "champion")


def _as_of_now(governor, case):
    """The same evidence, with the present holder and the present end of the ledger."""
    entries = governor.ledger.entries(model=case.identity.name)
    holder = governor._examiner._holder(case.identity.name, "champion")
    return replace(case, holder=holder, seq=entries[-1].seq if entries else 0)


def main() -> None:
    engine, governor, cases = prepared(*sys.argv[1:])
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            engine.dispose(close=False)  # connections are the parent's
            promote_for_ever(governor, cases)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
