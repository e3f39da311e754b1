"""The data plane: worker loop, node SDK, built-in nodes."""
