"""What can be wrong with a model.

NodeFailed
  BadInput
    ModelUnknown 422     no model of that name is configured here
  ModelRefused 422       its folder cannot be used, or holds what we do not load (pickles)
  ModelChanged 409       its files are not those that the run was pinned to

None of them goes away by trying again.
"""

from spindle_common.problems import BadInput, NodeFailed


class ModelUnknown(BadInput):
    """No model of that name is configured on this worker."""

    code, title, status = "model-unknown", "There is no model of that name", 422


class ModelRefused(NodeFailed):
    """The model's folder cannot be used; trying again will not help."""

    code, title, status = "model-refused", "The model cannot be loaded", 422


class ModelChanged(NodeFailed):
    """The model's files are not those that the run was pinned to."""

    code, title, status = "model-changed", "The model is not the one that the run was pinned to", 409
