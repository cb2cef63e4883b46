"""What is written into a ledger comes back, survives, and cannot contradict itself."""

import csv
import inspect
import math
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import create_engine, make_url, text

from sciwm.discovery.experiment.ledger import Ledger, LedgerError, tables
from sciwm.discovery.problem.hypothesis import (
    Candidate,
    Failure,
    Hypothesis,
    Measurement,
    Prediction,
    verdict_of,
)

CONFIG = {"objective": {"goals": [{"outcome": "gap", "weight": 1.0}]}, "budget": 100}
TEXTS = [
    "",
    "ökonomisch ≥ 3 σ",
    "水の分子",
    "🧪\n\t'quoted' \"twice\" ; DROP TABLE",
    "\u202eright to left",
]
NUMBERS = [0.0, -0.0, 0.1 + 0.2, 5e-324, -1.7976931348623157e308, math.inf, -math.inf, 1e16 + 2]


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    """A place for a ledger that no other test knows."""
    if request.param == "sqlite":
        yield str(tmp_path / "ledger.sqlite")
        return
    server = os.environ.get("SCIWM_TEST_POSTGRES")
    if not server:
        pytest.skip("SCIWM_TEST_POSTGRES names no PostgreSQL server")
    with new_database(server) as url:
        yield url


class new_database:
    """A database of a PostgreSQL server, dropped in the end."""

    def __init__(self, server):
        self.url = make_url(server)
        self.name = f"sciwm_{os.getpid()}_{time.time_ns()}"

    def _administer(self, command):
        engine = create_engine(
            self.url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.execute(text(command))
        engine.dispose()

    def __enter__(self):
        self._administer(f"CREATE DATABASE {self.name}")
        return self.url.set(database=self.name).render_as_string(hide_password=False)

    def __exit__(self, *exception):
        self._administer(f"DROP DATABASE {self.name} WITH (FORCE)")


def plain(where):
    """A connection that knows nothing of ledgers."""
    url = make_url(where) if "://" in where else make_url(f"sqlite:///{where}")
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return create_engine(url)


def changed(where, *commands):
    engine = plain(where)
    with engine.begin() as connection:
        for command in commands:
            connection.execute(text(command))
    engine.dispose()


def asked(where, query):
    engine = plain(where)
    with engine.connect() as connection:
        rows = connection.execute(text(query)).all()
    engine.dispose()
    return [tuple(row) for row in rows]


def begun(ledger, name="c", config=CONFIG, seed=7):
    return ledger.begin(name, config, seed, {"sciwm": "0.1.0"})


def some(k, decision="chosen", **other):
    """A plain hypothesis."""
    values = {
        "candidate": Candidate(f"C{'C' * k}O", "genetic", ("CO", "CCO")[: k % 3]),
        "round": 0,
        "decision": decision,
        "why": f"the {k}th",
        "model": "v1",
        "predictions": {"gap": Prediction(3.0, 0.2, 2.5, 3.5)},
        "score": (3.0,),
    }
    return Hypothesis(**{**values, **other})


def any_hypothesis(k, rng):
    """A hypothesis with everything that is awkward to store."""

    def pick(options):
        return options[rng.integers(len(options))]

    decision = pick(["rejected", "passed over", "chosen", "control"])
    expected = {
        name: Prediction(*(pick(NUMBERS) for _ in range(4)), pick([None, *TEXTS]))
        for name in ["gap", "Δ solvation", "x'y"][: rng.integers(4)]
    }
    return Hypothesis(
        candidate=Candidate(
            f"[13C@@H]{k}/C=C\\{pick(TEXTS)}", pick(TEXTS), tuple(TEXTS[: rng.integers(4)])
        ),
        round=k // 20,
        decision=decision,
        why=pick(TEXTS),
        model=pick(TEXTS),
        predictions=expected,
        score=tuple(pick(NUMBERS) for _ in range(rng.integers(3))),
        failure=Failure("gate", pick(TEXTS)) if decision == "rejected" and k % 2 else None,
    )


def concluded(campaign, hypothesis, rng):
    """The hypothesis with a result, as recorded and as it should come back."""
    smiles = hypothesis.candidate.smiles
    if hypothesis.decision not in ("chosen", "control") or rng.random() < 0.2:
        return hypothesis
    campaign.attempt(smiles)
    cost = float(rng.random())
    if rng.random() < 0.3:
        failure = Failure("calculation", TEXTS[rng.integers(5)])
        campaign.fail(smiles, failure, cost)
        return replace(hypothesis, failure=failure, cost=cost)
    found = {
        name: Measurement(NUMBERS[rng.integers(8)], float(rng.random()))
        for name in ["gap", "Δ solvation", "unforeseen"][: 1 + rng.integers(3)]
    }
    score = tuple(NUMBERS[rng.integers(8)] for _ in range(rng.integers(3)))
    campaign.finish(smiles, found, score, cost, "frames/ö.h5md", "abc")
    return replace(
        hypothesis,
        measurements=found,
        measured_score=score,
        cost=cost,
        verdict=verdict_of(hypothesis.predictions, found),
    )


# -- what is written comes back -------------------------------------------------------------------


def test_everything_comes_back_equal_and_in_order(where):
    rng = np.random.default_rng(0)
    with Ledger(where) as ledger:
        campaign = begun(ledger)
        proposed = [any_hypothesis(k, rng) for k in range(100)]
        for start in range(0, 100, 20):
            campaign.propose(proposed[start : start + 20])
        expected = [concluded(campaign, h, rng) for h in proposed]
        assert campaign.hypotheses() == expected
    with Ledger(where, read_only=True) as ledger:
        again = ledger.campaign("c")
        assert again.hypotheses() == expected
        assert again.hypotheses(round=3) == expected[60:80]
        assert again.hypotheses(round=9) == []
        assert again.known() == {h.candidate.smiles for h in expected}
        assert again.rounds() == 5
        assert (again.config, again.seed) == (CONFIG, 7)
        assert {h.verdict for h in expected} == {"confirmed", "refuted", "undecided"}


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE prediction SET upper = 4",
        "UPDATE score SET predicted = NULL",
        "UPDATE hypothesis SET why = 'because'",
        "DELETE FROM parent",
    ],
)
def test_the_comparison_catches_a_ledger_that_was_changed(where, damage):
    with Ledger(where) as ledger:
        begun(ledger).propose([some(1)])
    changed(where, damage)
    with Ledger(where, read_only=True) as ledger:
        assert ledger.campaign("c").hypotheses() != [some(1)]


def test_campaigns_do_not_mix(where):
    with Ledger(where) as ledger:
        first, second = begun(ledger, "müsli"), begun(ledger, "other", {}, 1)
        first.propose([some(1)])
        second.propose([some(1), some(2)])
        second.attempt(some(1).candidate.smiles)
        second.finish(some(1).candidate.smiles, {"gap": Measurement(3.0)}, (3.0,), 2.0)
        first.model("v1", "", 3, True, "", {})
        assert ledger.campaigns() == ["müsli", "other"]
        assert (first.spent(), second.spent()) == ((0, 0.0), (1, 2.0))
        assert first.hypotheses() == first.unfinished() == [some(1)]
        assert second.unfinished() == [some(2)]
        assert second.models() == []


def test_an_empty_campaign_is_empty(where):
    with Ledger(where) as ledger:
        campaign = begun(ledger)
        campaign.propose([])
        assert campaign.hypotheses() == campaign.unfinished() == campaign.models() == []
        assert (campaign.known(), campaign.spent(), campaign.rounds()) == (set(), (0, 0.0), 0)


def test_ten_thousand_hypotheses_are_kept(where):
    many = [some(0, candidate=Candidate(f"C{k}", "library", ("C",))) for k in range(10_000)]
    with Ledger(where) as ledger:
        campaign = begun(ledger)
        campaign.propose(many)
        assert campaign.hypotheses() == many


def test_the_tables_are_plain(where):
    with Ledger(where) as ledger:
        campaign = begun(ledger)
        campaign.propose([some(1), some(2)])
        campaign.attempt("CCO")
        campaign.finish("CCO", {"gap": Measurement(3.1)}, (3.1,), 2.0)
        campaign.model("v1", "v0", 2, True, "", {"gap": 0.1})
    names = set(tables.METADATA.tables)
    assert len(names) == 11
    if "://" not in where:
        with closing(sqlite3.connect(where)) as connection:  # nothing of ours between
            rows = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    else:
        rows = {name: asked(where, f"SELECT * FROM {name}") for name in names}
    assert all(rows.values())
    query = re.search(r"SELECT.*USING \(.*?\)", inspect.getdoc(tables), re.S)[0]
    assert asked(where, query) == [
        ("CCO", "gap", 3.0, 2.5, 3.5, 3.1, "confirmed"),
        ("CCCO", "gap", 3.0, 2.5, 3.5, None, "undecided"),
    ]


def test_the_table_for_people_has_a_row_per_hypothesis(where, tmp_path):
    target = tmp_path / "table.csv"
    with Ledger(where) as ledger:
        campaign = begun(ledger)
        campaign.export(target)
        assert target.read_text().startswith("smiles,proposer")
        odd = some(2, "control", why='a, "b"\nü', predictions={}, score=())
        campaign.propose([some(1), odd, some(3)])
        for smiles in ("CCO", "CCCO"):
            campaign.attempt(smiles)
        campaign.finish("CCO", {"gap": Measurement(4.0, 0.1)}, (4.0,), 2.0, "f.h5md", "x")
        campaign.fail("CCCO", Failure("embedding", "no structure"), 0.5)
        campaign.export(target)
        with target.open(newline="", encoding="utf-8") as file:
            first, second, third = csv.DictReader(file)
        assert first["smiles"] == "CCO"
        assert first["parents"] == "CO"
        assert (first["gap_predicted"], first["gap_upper"], first["gap_flag"]) == ("3.0", "3.5", "")
        assert (first["gap_measured"], first["gap_measured_spread"]) == ("4.0", "0.1")
        assert (first["score_0_predicted"], first["score_0_measured"]) == ("3.0", "4.0")
        assert (first["verdict"], first["cost_s"], first["frames"]) == ("refuted", "2.0", "f.h5md")
        assert second["why"] == odd.why
        assert (second["failure_stage"], second["failure_reason"]) == ("embedding", "no structure")
        assert second["gap_predicted"] == third["gap_measured"] == ""
        assert campaign.frames() == {"CCO": ("f.h5md", "x")}
        with pytest.raises(LedgerError, match="cannot be written"):
            campaign.export(tmp_path / "absent" / "table.csv")


# -- what contradicts is refused ------------------------------------------------------------------


def test_a_repeat_is_refused_by_name_and_nothing_is_kept(where):
    with Ledger(where) as ledger:
        campaign = begun(ledger)
        campaign.propose([some(1)])
        with pytest.raises(LedgerError, match=r"CCO was proposed in round 0 .*chosen"):
            campaign.propose([some(2), some(1, "control"), some(3)])
        with pytest.raises(LedgerError, match="CCCO is proposed twice at once"):
            campaign.propose([some(2), some(2)])
        many = [some(0, candidate=Candidate(f"N{k}", "x")) for k in range(1200)]
        with pytest.raises(LedgerError, match="CCO was proposed"):
            campaign.propose([*many, some(1)])
        assert campaign.hypotheses() == [some(1)]


NAN = float("nan")


BAD = {
    "the score of CCO is NaN": some(1, score=(NAN,)),
    "the predicted gap of CCO is NaN": some(1, predictions={"gap": Prediction(0, 0, 0, NAN)}),
    "results already": some(1, measurements={"gap": Measurement(1.0)}),
    "with results": some(1, measured_score=(1.0,)),
    "CCO is proposed with": some(1, cost=1.0),
    "propose first": some(1, verdict="confirmed"),
    "finish or fail it": some(1, failure=Failure("gate", "")),
    "'nowhere'; it is one of parsing, gate": some(1, "rejected", failure=Failure("nowhere", "")),
    "'choosen'; it is one of rejected": some(1, "choosen"),
    "round -1": some(1, round=-1),
    "no valid Unicode": some(1, why="half \udc80"),
    "NUL": some(1, why="NUL \0"),
    "empty SMILES": some(1, candidate=Candidate("", "x")),
}


def test_what_cannot_be_a_proposal_is_refused_whole(where):
    with Ledger(where) as ledger:
        campaign = begun(ledger)
        for message, bad in BAD.items():
            with pytest.raises(LedgerError, match=message):
                campaign.propose([some(2), bad])
            assert campaign.known() == set()
        campaign.propose([some(2)])  # and it goes on
        assert campaign.hypotheses() == [some(2)]


def test_results_need_a_try_and_are_recorded_once(where):
    gap, other = {"gap": Measurement(3.1)}, {"gap": Measurement(9.0)}
    failure = Failure("time", "over 60 s")
    with Ledger(where) as ledger:
        campaign = begun(ledger)
        campaign.propose([some(1), some(2, "control"), some(3, "passed over"), some(4)])
        with pytest.raises(LedgerError, match="no try"):
            campaign.finish("CCO", gap, (3.1,), 2.0)
        with pytest.raises(LedgerError, match="not in campaign 'c'"):
            campaign.attempt("OCC")
        with pytest.raises(LedgerError, match="passed over"):
            campaign.attempt("CCCCO")
        assert campaign.attempt("CCO") == 1
        assert campaign.attempt("CCO") == 2
        for wrong in ({}, {"gap": Measurement(NAN)}):
            with pytest.raises(LedgerError, match=r"without a measurement|NaN"):
                campaign.finish("CCO", wrong, (3.1,), 2.0)
        for cost in (-1.0, NAN, math.inf):
            with pytest.raises(LedgerError, match="cost"):
                campaign.finish("CCO", gap, (3.1,), cost)
        assert len(campaign.unfinished()) == 3
        campaign.finish("CCO", gap, (3.1,), 2.0, "f", "h")
        campaign.finish("CCO", gap, (np.float64(3.1),), 2.0, "f", "h")
        for another in [
            (other, (3.1,), 2.0, "f", "h"),
            (gap, (3.2,), 2.0, "f", "h"),
            (gap, (3.1,), 2.5, "f", "h"),
            (gap, (3.1,), 2.0, "g", "h"),
            (gap, (3.1,), 2.0),
        ]:
            with pytest.raises(LedgerError, match="has a result already"):
                campaign.finish("CCO", *another)
        with pytest.raises(LedgerError, match="has a result already"):
            campaign.fail("CCO", failure, 2.0)
        with pytest.raises(LedgerError, match="pay for it twice"):
            campaign.attempt("CCO")
        campaign.attempt("CCCO")
        campaign.fail("CCCO", failure, 60.0)
        campaign.fail("CCCO", failure, 60.0)
        with pytest.raises(LedgerError, match=r"another failure.*over 60 s.*over 61 s"):
            campaign.fail("CCCO", Failure("time", "over 61 s"), 60.0)
        with pytest.raises(LedgerError, match="has a result already"):
            campaign.finish("CCCO", gap, (3.1,), 60.0)
        assert campaign.spent() == (2, 62.0)
        assert campaign.unfinished() == [some(4)]
        assert [h.verdict for h in campaign.hypotheses()] == ["confirmed", *3 * ["undecided"]]
    assert asked(where, "SELECT number, ended IS NULL FROM attempt WHERE hypothesis = 1") in (
        [(1, True), (2, False)],
        [(1, 1), (2, 0)],
    )


OTHER_SETTINGS = {
    "config.budget was 100 and is 200": {**CONFIG, "budget": 200},
    "config.budget was 100 and is True": {**CONFIG, "budget": True},
    "config.new is None and was absent": {**CONFIG, "new": None},
    r"config.objective was .* and is gone": {"budget": 100},
    r"config.objective.goals\[0\].weight was 1.0 and is 2": {
        **CONFIG,
        "objective": {"goals": [{"outcome": "gap", "weight": 2}]},
    },
}


def test_a_campaign_resumes_only_with_its_own_settings(where):
    with Ledger(where) as ledger:
        assert not begun(ledger).resumed
    with Ledger(where) as ledger:
        for message, config in OTHER_SETTINGS.items():
            with pytest.raises(LedgerError, match=message):
                begun(ledger, config=config)
        with pytest.raises(LedgerError, match="seed was 7 and is 8"):
            begun(ledger, seed=8)
        # Tuples are lists, 1 is 1.0, and other versions of programs may come.
        same = {**CONFIG, "objective": {"goals": ({"weight": 1, "outcome": "gap"},)}}
        campaign = ledger.begin("c", same, 7, {"sciwm": "9"})
        assert campaign.resumed
        campaign.propose([some(1)])
    assert len(asked(where, "SELECT * FROM writer")) == 2


def test_settings_that_cannot_be_kept_are_refused(where):
    with Ledger(where) as ledger:
        for config, seed, name in [
            ({"path": os}, 7, "c"),
            ({}, -1, "c"),
            ({}, 2**63, "c"),
            ({}, 7, ""),
            ({}, 7, "a\0"),
        ]:
            with pytest.raises(LedgerError):
                begun(ledger, name, config, seed)
        odd = {"limit": math.inf, "void": NAN, "ü": "\ud800"}
        begun(ledger, config=odd)
        with pytest.raises(LedgerError, match="begun already"):
            begun(ledger, config=odd)
    with Ledger(where) as ledger:
        assert begun(ledger, config=odd).resumed


def test_models_are_kept_once(where):
    with Ledger(where) as ledger:
        campaign = begun(ledger)
        campaign.model("v1", "", 20, True, "first", {"gap": 0.3, "Δ": math.inf})
        campaign.model("v2", "v1", 40, False, "no better", {})
        campaign.model("v2", "v1", 40, False, "no better", {})
        with pytest.raises(LedgerError, match="'v2' was recorded as"):
            campaign.model("v2", "v1", 41, False, "no better", {})
        with pytest.raises(LedgerError, match="NaN"):
            campaign.model("v3", "v1", 41, False, "", {"gap": NAN})
        first, second = campaign.models()
        assert (first.version, first.errors) == ("v1", {"gap": 0.3, "Δ": math.inf})
        assert (second.parent, second.trained_on, second.promoted) == ("v1", 40, False)


def test_readers_cannot_write(where):
    with Ledger(where) as ledger:
        begun(ledger).propose([some(1)])
        with pytest.raises(LedgerError, match="begin"):
            ledger.campaign("c").propose([some(2)])
    with Ledger(where, read_only=True) as ledger:
        with pytest.raises(LedgerError, match="read_only=True"):
            begun(ledger)
        with pytest.raises(LedgerError, match=r"no campaign 'd' .* but c"):
            ledger.campaign("d")
        assert ledger.campaign("c").hypotheses() == [some(1)]


def test_a_closed_ledger_says_so(where):
    with Ledger(where) as ledger:
        campaign = begun(ledger)
    for use in (campaign.known, lambda: campaign.propose([some(1)]), lambda: begun(ledger, "d")):
        with pytest.raises(LedgerError, match="was closed"):
            use()


def test_threads_take_turns(where):
    with Ledger(where) as ledger:
        campaign = begun(ledger)
        campaign.propose([some(k) for k in range(1, 41)])
        failures = []

        def work(part):
            try:
                for h in part:
                    smiles = h.candidate.smiles
                    campaign.attempt(smiles)
                    campaign.finish(smiles, {"gap": Measurement(3.0)}, (3.0,), 1.0)
            except LedgerError as error:
                failures.append(error)

        whole = campaign.hypotheses()
        threads = [threading.Thread(target=work, args=(whole[k::4],)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert campaign.spent() == (40, 40.0)


# -- what is no ledger ----------------------------------------------------------------------------


def test_a_newer_ledger_is_refused(where):
    with Ledger(where) as ledger:
        begun(ledger)
    changed(where, "UPDATE ledger SET version = 99")
    for read_only in (False, True):
        with pytest.raises(LedgerError, match=r"version 99.*version 1"):
            Ledger(where, read_only=read_only)


def test_another_programs_tables_are_left_alone(where):
    changed(where, "CREATE TABLE model (x TEXT)")
    with pytest.raises(LedgerError, match=r"tables of another program \(model\)"):
        Ledger(where)
    with pytest.raises(LedgerError, match="holds no ledger"):
        Ledger(where, read_only=True)
    if "://" not in where:
        assert asked(where, "PRAGMA journal_mode") == [("delete",)]
    changed(where, "DROP TABLE model")
    with Ledger(where) as ledger:
        assert ledger.campaigns() == []


@pytest.mark.parametrize(
    "address",
    ["mysql://u:geheim@h/d", "sqlite://", "://", "postgresql://u:geheim@localhost:1/d"],
)
def test_addresses_that_lead_nowhere_are_refused_without_their_password(address):
    with pytest.raises(LedgerError) as caught:
        Ledger(address)
    assert "geheim" not in str(caught.value)


def test_the_ledger_needs_no_torch():
    code = "import sys, sciwm.discovery.experiment.ledger; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
