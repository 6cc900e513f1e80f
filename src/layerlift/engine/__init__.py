"""What runs a model. The stages know `base` alone: numpy arrays go in and come out, all else is the engine's own."""
