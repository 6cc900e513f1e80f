"""What the clip shows elsewhere is gathered, not invented: hidden pixels from the frames that show them."""

from layerlift.evidence.gather import gather_evidence
from layerlift.evidence.holes import ShallowHoles
from layerlift.evidence.state import EvidenceOptions, State
from layerlift.evidence.store import Evidence

__all__ = ["Evidence", "EvidenceOptions", "ShallowHoles", "State", "gather_evidence"]
