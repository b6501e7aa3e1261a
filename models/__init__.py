"""Models that stream: contract, registry, checkpoints, flow, layers, and a folder a family.

Nothing here imports torch until a model is loaded.
"""

from riverrun.models.errors import CheckpointError, InvalidRequest, ModelError
from riverrun.models.registry import MODELS, for_task, load, names

__all__ = ["MODELS", "CheckpointError", "InvalidRequest", "ModelError", "for_task", "load", "names"]
