"""What runs a model. Stages see it through `base`: numpy arrays go in and come out, all else is the engine's own."""
