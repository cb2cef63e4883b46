"""Who judges the molecules of a screening: processes of this machine, or of the nodes of a cluster."""

import math
from abc import ABC, abstractmethod
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from sciwm.discovery.experiment.oracle.parsl_executor import Cluster, parsl_executor
from sciwm.discovery.experiment.oracle.pool import WorkerPool
from sciwm.discovery.screening import worker
from sciwm.discovery.screening.judge import Learnt, Record, Screening
from sciwm.evaluation.run import model_file

PATIENCE = 120.0
"""Seconds for a block, which takes one, where nothing is imagined."""


class Workers(ABC):
    """Judges blocks of molecules.

    Attributes:
        count: Blocks that are judged at a time.
        tries: Of a molecule that is judged alone and fails.
    """

    count: int
    tries: ClassVar[int] = 1

    @abstractmethod
    def judged(self, smiles: list[str]) -> Future[list[Record]]:
        """A record for each molecule; fails where a process was lost, and others take its place."""

    @abstractmethod
    def close(self) -> None:
        """Ends them."""


class LocalWorkers(Workers):
    """Processes of this machine, which end with this one.

    Args:
        learnt: What need not be found out in each of them again.
    """

    def __init__(self, screening: Screening, learnt: Learnt, count: int):
        self.count = count
        patience = math.inf if screening.models else PATIENCE
        prepare = partial(worker.prepare, screening, learnt)
        self._pool = WorkerPool(count, patience, prepare=prepare)

    def judged(self, smiles: list[str]) -> Future[list[Record]]:
        return self._pool.submit(worker.judged, smiles)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class ClusterWorkers(Workers):
    """Processes on the nodes of a cluster, which see the same files; each finds out by itself what the table
    of a screening teaches. A molecule that never ends holds its process until the time of its node is over.

    Args:
        folder: For Parsl's logs and scripts.

    Raises:
        ImportError: If Parsl is not installed.
    """

    tries = 2  # the time of a node may be over while it judges

    def __init__(self, screening: Screening, cluster: Cluster, folder: Path):
        self.count = cluster.workers * cluster.nodes
        table = str(Path(screening.table).resolve()) if screening.table else None
        models = [str(model_file(one).resolve()) for one in screening.models]
        self._screening = replace(screening, table=table, models=models)
        self._executor = parsl_executor(cluster, folder.resolve())

    def judged(self, smiles: list[str]) -> Future[list[Record]]:
        return self._executor.submit(worker.judged_for, self._screening, smiles)

    def close(self) -> None:
        self._executor.shutdown(wait=False)
