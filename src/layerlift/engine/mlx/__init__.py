"""The engine that runs a model with Apple's MLX instead of torch: the same weights, noise and results."""
