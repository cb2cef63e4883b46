"""The tables of a ledger, plain enough to be queried by hand.

One hypothesis with its predictions and measurements side by side:

    SELECT smiles, outcome, mean, lower, upper, value, verdict
    FROM hypothesis
    JOIN prediction ON prediction.hypothesis = hypothesis.id
    LEFT JOIN measurement USING (hypothesis, outcome)

Times are UTC in ISO 8601, costs are seconds, everything else is in the unit of its outcome.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

VERSION = 1
"""Of these tables; to be raised, with a conversion of the older ones, when they change."""

METADATA = MetaData()


def _number() -> "Column[int]":
    return Column("id", Integer, primary_key=True)


def _of(table: str, key: str = "id", first: bool = False) -> "Column[int]":
    return Column(table, ForeignKey(f"{table}.{key}"), nullable=False, primary_key=first)


LEDGER = Table("ledger", METADATA, Column("version", Integer, nullable=False))

CAMPAIGN = Table(
    "campaign",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("config", Text, nullable=False),  # JSON
    Column("seed", BigInteger, nullable=False),
    Column("created", Text, nullable=False),
)

# One row per process that began or resumed a campaign; the last one is, or was, its owner.
WRITER = Table(
    "writer",
    METADATA,
    _number(),
    _of("campaign", "name"),
    Column("since", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("versions", Text, nullable=False),  # JSON
)

MODEL = Table(
    "model",
    METADATA,
    _number(),
    _of("campaign", "name"),
    Column("version", Text, nullable=False),
    Column("parent", Text, nullable=False),
    Column("trained_on", Integer, nullable=False),
    Column("promoted", Boolean, nullable=False),
    Column("note", Text, nullable=False),
    Column("recorded", Text, nullable=False),
    UniqueConstraint("campaign", "version"),
)

MODEL_ERROR = Table(
    "model_error",
    METADATA,
    _of("model", first=True),
    Column("name", Text, primary_key=True),
    Column("value", Double, nullable=False),
)

HYPOTHESIS = Table(
    "hypothesis",
    METADATA,
    _number(),
    _of("campaign", "name"),
    Column("smiles", Text, nullable=False),
    Column("proposer", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("decision", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("model", Text, nullable=False),  # version; the model may be recorded later
    Column("proposed", Text, nullable=False),
    Column("concluded", Text),  # when its reference run had a result; NULL before
    Column("cost", Double, nullable=False),
    Column("failure_stage", Text),
    Column("failure_reason", Text),
    Column("verdict", Text, nullable=False),
    Column("frames", Text, nullable=False),  # file with the structures met on the way
    Column("frames_hash", Text, nullable=False),
    UniqueConstraint("campaign", "smiles"),
)

PARENT = Table(
    "parent",
    METADATA,
    _of("hypothesis", first=True),
    Column("position", Integer, primary_key=True),
    Column("smiles", Text, nullable=False),
)

# Predicted and measured stand side by side; NULL where there is none.
SCORE = Table(
    "score",
    METADATA,
    _of("hypothesis", first=True),
    Column("goal", Integer, primary_key=True),
    Column("predicted", Double),
    Column("measured", Double),
)

PREDICTION = Table(
    "prediction",
    METADATA,
    _of("hypothesis", first=True),
    Column("outcome", Text, primary_key=True),
    Column("mean", Double, nullable=False),
    Column("spread", Double, nullable=False),
    Column("lower", Double, nullable=False),
    Column("upper", Double, nullable=False),
    Column("flag", Text),
)

MEASUREMENT = Table(
    "measurement",
    METADATA,
    _of("hypothesis", first=True),
    Column("outcome", Text, primary_key=True),
    Column("value", Double, nullable=False),
    Column("spread", Double, nullable=False),
)

# One row per start of a reference run; the result is in the hypothesis. A try without an end was
# interrupted, or is running.
ATTEMPT = Table(
    "attempt",
    METADATA,
    _of("hypothesis", first=True),
    Column("number", Integer, primary_key=True),
    Column("started", Text, nullable=False),
    Column("ended", Text),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
)
