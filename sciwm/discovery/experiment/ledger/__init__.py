"""The ledger: every hypothesis of every campaign, kept so that a crash loses nothing."""

from sciwm.discovery.experiment.ledger.campaign import Campaign
from sciwm.discovery.experiment.ledger.database import LedgerError
from sciwm.discovery.experiment.ledger.ledger import Ledger
from sciwm.discovery.experiment.ledger.models import ModelRecord

__all__ = ["Campaign", "Ledger", "LedgerError", "ModelRecord"]
