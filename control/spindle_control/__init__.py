"""The control plane: API, compiler, run driver, command line."""
