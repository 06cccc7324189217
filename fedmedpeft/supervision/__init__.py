"""Starting processes that belong together, watching them, starting them again, and ending them in order."""

from fedmedpeft.supervision.child import AFTER_HANG, Account, Child, Ending
from fedmedpeft.supervision.supervisor import Supervisor

__all__ = ["AFTER_HANG", "Account", "Child", "Ending", "Supervisor"]
