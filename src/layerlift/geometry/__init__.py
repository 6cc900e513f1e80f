"""Arithmetic without pixels: how a clip's size and length meet a model's (`fit`), and what of it is seen (`focus`)."""
