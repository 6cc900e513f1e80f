"""How large a number may be that a user, a file or a model gives; what is larger is a typing error, or damage.

Each is far beyond what anyone needs, and small enough that nothing is begun that could not end.
"""

# Twice the pixels of an 8K frame: beyond it a header is more likely to lie than to tell of a picture one can process.
MAX_PIXELS = 2 * 7680 * 4320
LONGEST_SIDE = 2**16  # pixels; the longest that JPEG, WebP and most video codecs can say

FASTEST = 1000  # frames a second
MOST_FRAMES = 1_000_000  # of a clip that is made: half a day at 24 a second
MOST_START = MOST_FRAMES
MOST_SCENE = 2**29  # pixels of all frames of a scene, which is drawn in memory

MOST_STEPS = 100_000  # noise levels; models are trained on 1000
MOST_SIGMAS = 100  # noise levels that are averaged
MOST_GUIDANCE = 1000.0
MOST_WINDOW = 100_000  # frames that a model is shown at once
MOST_CONTEXT = 10_000  # latent frames
MOST_MEMORY = 2**20  # GiB

MOST_PIXELS_GROWN = 4096  # by which a mask grows, or its edge is looked for
MOST_SMOOTHED = 1000  # frames on either side
MOST_SCALE = 2**14  # background pixels to a pixel of a layer
MOST_REFERENCES = 10_000  # frames to clean by hand
MOST_REPEATS = 1000  # of a measurement
MOST_SEEDS = 100_000
