"""Reference runs on many nodes: a Parsl executor from a few words about the cluster.

Parsl's own configuration files are Python programs. This one is data: nothing in it is executed, and
what reaches the batch system's script is checked to be plain words.
"""

import os
import re
import shlex
import sys
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sciwm.core.bounds import MOST_WORKERS, require_counts
from sciwm.core.yaml_text import read_yaml
from sciwm.discovery.experiment.oracle.pool import ENVIRONMENT

if TYPE_CHECKING:
    from parsl import Config

_WORD = re.compile(r"[\w.-]+")
_WALLTIME = re.compile(r"\d+:\d\d:\d\d")


@dataclass(frozen=True)
class Cluster:
    """Where runs go.

    Attributes:
        provider: This machine, or the nodes of a Slurm cluster.
        workers: Processes on each node.
        nodes: Asked for one by one, so that the first works while the others queue.
        walltime: Of one node, hours:minutes:seconds; a node that ends is asked for again.
        account: Charged for it.
        partition: The queue.
    """

    provider: Literal["local", "slurm"]
    workers: int
    nodes: int = 1
    walltime: str = "01:00:00"
    account: str | None = None
    partition: str | None = None

    @classmethod
    def read(cls, path: Path) -> "Cluster":
        """Reads a YAML file with these attributes.

        Raises:
            ValueError: If one is unknown, missing or wrong.
        """
        content = read_yaml(path)
        known = [one.name for one in fields(cls)]
        if not isinstance(content, dict) or not content.keys() <= set(known):
            odd = (
                sorted(set(map(str, content)) - set(known))
                if isinstance(content, dict)
                else content
            )
            raise ValueError(f"{path} may name {', '.join(known)} only, not {odd}")
        missing = {"provider", "workers"} - content.keys()
        if missing:
            raise ValueError(f"{path} lacks {', '.join(sorted(missing))}")
        try:
            return cls(**content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def __post_init__(self) -> None:
        if self.provider not in ("local", "slurm"):
            raise ValueError(f"provider must be 'local' or 'slurm', got {self.provider!r}")
        for name in ("workers", "nodes"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        require_counts(most=MOST_WORKERS, workers=self.workers)
        if self.provider == "local" and self.nodes != 1:
            raise ValueError(f"this machine is one node, got nodes={self.nodes}; raise workers")
        # YAML takes 1:00:00 for a number in base sixty.
        if not isinstance(self.walltime, str) or not _WALLTIME.fullmatch(self.walltime):
            raise ValueError(f"walltime must be like '01:00:00', in quotes, got {self.walltime!r}")
        for name in ("account", "partition"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and _WORD.fullmatch(value)):
                raise ValueError(
                    f"{name} must be one word of letters, digits, . _ -, got {value!r}"
                )


def parsl_executor(cluster: Cluster, folder: Path) -> Executor:
    """Starts Parsl, which takes some seconds here, and on a cluster until nodes are free.

    Args:
        folder: For Parsl's logs and scripts; all nodes must see it.

    Raises:
        ImportError: If Parsl is not installed.
    """
    try:
        from parsl.concurrent import ParslPoolExecutor
    except ImportError as error:
        raise ImportError("runs on a cluster need Parsl; pip install 'sciwm[parsl]'") from error
    return ParslPoolExecutor(_config(cluster, folder))


def _config(cluster: Cluster, folder: Path) -> "Config":
    from parsl import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider, SlurmProvider
    from parsl.providers.base import ExecutionProvider

    programs = Path(sys.executable).parent
    exports = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    # Nodes find Parsl's programs beside the Python that runs now, whether or not it is activated.
    start = f"export PATH={shlex.quote(str(programs))}:$PATH {' '.join(exports)}"
    provider: ExecutionProvider
    if cluster.provider == "local":
        provider = LocalProvider(worker_init=start, init_blocks=1, min_blocks=1, max_blocks=1)
    else:
        provider = SlurmProvider(
            worker_init=start,
            nodes_per_block=1,
            init_blocks=cluster.nodes,
            max_blocks=cluster.nodes,
            walltime=cluster.walltime,
            account=cluster.account,
            partition=cluster.partition,
        )
    workers = HighThroughputExecutor(
        label="reference",
        provider=provider,
        max_workers_per_node=cluster.workers,
        address="127.0.0.1" if cluster.provider == "local" else None,
        interchange_launch_cmd=[os.fspath(programs / "interchange.py")],
    )
    # Runs are retried by the oracle, which counts them; Parsl's own log would never be closed.
    return Config([workers], run_dir=os.fspath(folder), retries=0, initialize_logging=False)
