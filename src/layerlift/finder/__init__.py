"""What an object causes, found in pixels: a plate of the clip, what travels with the object, and a small network."""
