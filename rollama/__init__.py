"""RO-LLaMA for breast radiotherapy: note -> summary -> plan -> 3D target. Research use only.

Importing this package is cheap: torch, ray and monai load only in the room that needs them.
"""

__version__ = "0.1.0"

RESEARCH_ONLY = "RESEARCH USE ONLY - not a medical device, not for clinical decisions"
"""Label that every output carries."""
