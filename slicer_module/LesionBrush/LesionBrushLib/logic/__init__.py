"""What the module does in the scene. No Qt, and nothing is sent from here. `LesionBrushLogic` is the door."""

from .compose import is_synthetic
from .editing import Proposal
from .logic import LesionBrushLogic
from .problems import Problem
from .shipment import Shipment
from .variants import Variants

__all__ = ["LesionBrushLogic", "Problem", "Proposal", "Shipment", "Variants", "is_synthetic"]
