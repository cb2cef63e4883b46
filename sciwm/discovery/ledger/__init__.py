"""The ledger: every hypothesis of every campaign, kept so that a crash loses nothing."""

from sciwm.discovery.ledger.campaign import Campaign
from sciwm.discovery.ledger.database import LedgerError
from sciwm.discovery.ledger.ledger import Ledger
from sciwm.discovery.ledger.models import ModelRecord

__all__ = ["Campaign", "Ledger", "LedgerError", "ModelRecord"]
