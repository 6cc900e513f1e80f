"""How the demo model is trained, one responsibility a file; `tools/train_demo.py` is the command line.

Needs torch, numpy, diffusers, safetensors and the parts of layerlift that need no more than these: neither OpenCV nor
PyAV. docs/notes/demo-model.md has every figure of the run whose weights ship with the package.
"""
