"""The models that a campaign trained."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, insert, select

from sciwm.discovery.experiment.ledger.database import LedgerError
from sciwm.discovery.experiment.ledger.records import number, text
from sciwm.discovery.experiment.ledger.tables import MODEL, MODEL_ERROR


@dataclass(frozen=True)
class ModelRecord:
    """A model that a campaign trained.

    Attributes:
        version: As hypotheses name it.
        parent: Version it was trained further from; empty for the first.
        trained_on: Number of measured molecules.
        promoted: Whether it took its parent's place.
        note: Why, or why not.
        errors: By name, such as of an outcome on held-out molecules, in its unit.
    """

    version: str
    parent: str
    trained_on: int
    promoted: bool
    note: str
    errors: dict[str, float]


def add(connection: Connection, campaign: str, record: ModelRecord, moment: str) -> None:
    """Inserts a model, unless it is there.

    Raises:
        LedgerError: If another one of that version is there, or values cannot be kept.
    """
    version = text(record.version, "a model's version")
    for known in load(connection, campaign, MODEL.c.version == version):
        if known != record:
            raise LedgerError(
                f"model {version!r} was recorded as {known} and is now {record}; "
                "a changed model needs a version of its own"
            )
        return
    key = connection.scalar(
        insert(MODEL)
        .returning(MODEL.c.id)
        .values(
            campaign=campaign,
            version=version,
            parent=text(record.parent, f"the parent of model {version}"),
            trained_on=int(record.trained_on),
            promoted=bool(record.promoted),
            note=text(record.note, f"the note on model {version}"),
            recorded=moment,
        )
    )
    errors = [
        {
            "model": key,
            "name": text(name, "the name of an error"),
            "value": number(error, f"the error {name} of model {version}"),
        }
        for name, error in record.errors.items()
    ]
    if errors:
        connection.execute(insert(MODEL_ERROR), errors)


def load(
    connection: Connection, campaign: str, *conditions: ColumnElement[bool]
) -> list[ModelRecord]:
    """Models in the order in which they were recorded."""
    chosen = (MODEL.c.campaign == campaign, *conditions)
    errors: dict[int, dict[str, float]] = {}
    for row in connection.execute(select(MODEL_ERROR).join(MODEL).where(*chosen)):
        errors.setdefault(row.model, {})[row.name] = row.value
    return [
        ModelRecord(
            version=row.version,
            parent=row.parent,
            trained_on=row.trained_on,
            promoted=row.promoted,
            note=row.note,
            errors=errors.get(row.id, {}),
        )
        for row in connection.execute(select(MODEL).where(*chosen).order_by(MODEL.c.id))
    ]
