"""Work on pixels: kernels in numpy and OpenCV (`arrays`, `paste`), the same on a device (`tensors`), which to use."""
