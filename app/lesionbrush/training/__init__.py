"""Training of the models that ship with the project. Nothing here is needed to run a model."""
