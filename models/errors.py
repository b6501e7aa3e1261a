"""Errors of models.

ModelError                 anything a model or its weights refuse
├── CheckpointError        weights that are missing, unexpected, mis-shaped or of an unknown format
└── InvalidRequest         a request with values a model does not take
"""


class ModelError(Exception):
    """A model or its weights refuse; the message names the value, the limit and the way out."""


class CheckpointError(ModelError):
    """Weights are missing, unexpected, mis-shaped, or the file is not a checkpoint of this model."""


class InvalidRequest(ModelError):
    """A request holds a value the model does not take."""
