"""Starting processes that belong together, watching them, starting them again, and ending them in order."""

from fedmedpeft.supervision.child import Account, Child, Ending
from fedmedpeft.supervision.supervisor import Supervisor

__all__ = ["Account", "Child", "Ending", "Supervisor"]
