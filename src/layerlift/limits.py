"""How large a number may be that a user, a file or a model gives; what is larger is a typing error, or damage.

Each is far beyond what anyone needs, and small enough that nothing is begun that could not end.
"""

# Twice the pixels of an 8K frame: beyond it a header is more likely to lie than to tell of a picture one can process.
MAX_PIXELS = 2 * 7680 * 4320
LONGEST_SIDE = 2**16  # pixels; the longest that JPEG, WebP and most video codecs can say

FASTEST = 1000  # frames a second
MOST_FRAMES = 10_000_000  # of a clip: nearly five days at 24 a second
MOST_SECONDS = MOST_FRAMES // 24

MOST_STEPS = 1000  # noise levels; models are trained on no more
MOST_GUIDANCE = 1000.0
MOST_WINDOW = 100_000  # frames that a model is shown at once
MOST_CONTEXT = 10_000  # latent frames
MOST_MEMORY = 2**20  # GiB
