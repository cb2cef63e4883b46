"""Reference runs behind Parsl, on this machine; and what may be said of a cluster."""

import os
import signal
import threading
import time
from dataclasses import replace

import pytest
from conftest import HUNG

from sciwm.discovery.experiment.oracle.calculation import Calculation
from sciwm.discovery.experiment.oracle.oracle import Oracle
from sciwm.discovery.experiment.oracle.owner import birth_of
from sciwm.discovery.experiment.oracle.parsl_executor import Cluster, _config, parsl_executor
from sciwm.discovery.experiment.oracle.spool import Spool

pytestmark = pytest.mark.long

pytest.importorskip("parsl", reason="parsl is not installed")

GAP = {
    "class_path": "sciwm.discovery.problem.outcomes.properties.RelaxedProperty",
    "init_args": {"property": "gap"},
}
ENDLESS = {
    "class_path": "sciwm.discovery.problem.outcomes.survival.ThermalSurvival",
    "init_args": {"time": 1e8, "seeds": 1},
}
WATER = Calculation("O", (GAP,), {"class_path": "sciwm.simulation.references.xtb.GFN2"})

# Parsl leaves sockets, and the pipes of its helper processes, to the garbage collector.
untidy = pytest.mark.filterwarnings("ignore::ResourceWarning")


def read(tmp_path, text):
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    return Cluster.read(path)


class TestCluster:
    def test_a_few_words_describe_it(self, tmp_path):
        text = "provider: slurm\nnodes: 4\nworkers: 64\nwalltime: '12:00:00'\naccount: chem-1\n"
        assert read(tmp_path, text) == Cluster("slurm", 64, 4, "12:00:00", "chem-1")

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("provider: local", "lacks workers"),
            ("import os; os.abort()", "may name provider, workers"),
            ("provider: local\nworkers: 2\nworker_init: rm -r /", r"only, not \['worker_init'\]"),
            ("provider: !!python/object/apply:os.abort []\nworkers: 1", "is not YAML"),
            ("provider: kubernetes\nworkers: 1", "'local' or 'slurm', got 'kubernetes'"),
            ("provider: local\nworkers: 0", "workers must be a positive integer, got 0"),
            ("provider: local\nworkers: two", "workers must be a positive integer, got 'two'"),
            ("provider: local\nworkers: 2\nnodes: 3", "this machine is one node, got nodes=3"),
            ("provider: slurm\nworkers: 2\nwalltime: 1:00:00", "in quotes, got 3600"),
            (
                'provider: slurm\nworkers: 2\naccount: "x\\n#SBATCH --uid=0"',
                "account must be one word",
            ),
            ("provider: slurm\nworkers: 2\npartition: a b", "partition must be one word"),
        ],
    )
    def test_anything_else_is_refused(self, tmp_path, text, problem):
        with pytest.raises(ValueError, match=problem):
            read(tmp_path, text)

    @untidy
    def test_a_slurm_cluster_is_asked_for_its_nodes_one_by_one(self, tmp_path):
        cluster = Cluster("slurm", 64, 4, "12:00:00", "chem-1", "long")
        config = _config(cluster, tmp_path)
        [workers] = config.executors
        provider = workers.provider
        assert (provider.nodes_per_block, provider.max_blocks) == (1, 4)
        assert (provider.account, provider.partition) == ("chem-1", "long")
        assert provider.walltime == "12:00:00"
        assert workers.max_workers_per_node == 64
        assert "OMP_NUM_THREADS=1" in provider.worker_init
        assert config.retries == 0


@untidy
def test_parsl_loses_one_run_with_its_worker_and_goes_on(tmp_path):
    spool = Spool(tmp_path / "spool")
    doomed = replace(WATER, smiles="CCO", outcomes=(ENDLESS,))

    def kill():
        end = time.monotonic() + HUNG
        while (owner := spool.owner(doomed)) is None and time.monotonic() < end:
            time.sleep(0.05)
        os.kill(owner.pid, signal.SIGKILL)
        while birth_of(owner.pid) is not None and time.monotonic() < end:
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    tasks = [doomed, *(replace(WATER, smiles=smiles) for smiles in ("O", "CO", "C(C"))]
    with parsl_executor(Cluster("local", workers=2), tmp_path / "parsl") as executor:
        oracle = Oracle(executor, spool, timeout=HUNG, retries=0)
        answers = {answer.smiles: answer for answer in oracle.run(tasks)}
        killer.join()
        [after] = oracle.run([replace(WATER, smiles="C")])
    stages = {smiles: one.failure and one.failure.stage for smiles, one in answers.items()}
    assert stages == {"CCO": "worker", "O": None, "CO": None, "C(C": "parsing"}
    assert "WorkerLost" in answers["CCO"].failure.reason
    assert answers["O"].measurements["gap"].value == pytest.approx(14.4, abs=0.5)
    assert after.failure is None
