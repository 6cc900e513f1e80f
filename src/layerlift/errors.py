"""The errors a user can cause; everything else is a bug and keeps its traceback."""


class LayerliftError(Exception):
    """Root of every error layerlift raises on purpose."""


class PrecisionError(LayerliftError):
    """A model's result is no picture: NaN, saturated, flat or noise. More precise numbers may help."""


class InputError(LayerliftError):
    """Something the user gave cannot be used.

    The message is one sentence: what was given, what was expected, what to do. The command line prints it
    without a traceback and exits with code 2.
    """


def reason_of(error: OSError) -> str:
    """What the system says, as a part of a sentence."""
    return (error.strerror or str(error)).lower()
