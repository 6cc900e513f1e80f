"""Whether an exception says that memory, or another thing that a process takes of the machine, could not be had."""

import errno

# What a disk says that takes no more.
FULL = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
# What no file that is read and no picture that is encoded can cause: too many open files, a full disk.
_NEVER_A_FILE = FULL | {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}

# What is said when an allocation fails: by torch, besides its own exception for CUDA, and oneDNN in it, by MLX, OpenCV
# and ONNX Runtime.
OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "not enough memory", "invalid buffer size", "insufficient memory",
    "unable to allocate", "attempting to allocate", "failed to allocate", "bad allocation", "bad_alloc",
    "cannot allocate memory", "could not create a primitive", "could not create a memory object",
)  # fmt: skip
# Libraries whose exceptions are of no common kind.
_APART = ("cv2", "onnxruntime")
# What the system's loader says of a library that there is no memory for.
_UNLOADED = ("cannot allocate memory", "failed to map segment", "cannot apply additional memory protection")


def ran_out(error: BaseException) -> bool:
    """Whether an exception says that memory could not be had."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error).lower()
    if isinstance(error, ImportError):
        return any(words in said for words in _UNLOADED)
    speaks = isinstance(error, RuntimeError) or type(error).__module__.partition(".")[0] in _APART
    return speaks and any(words in said for words in OUT_OF_MEMORY)


def no_thread(error: BaseException) -> bool:
    """Whether an exception says that no further process or thread could be had; FFmpeg says that it is to wait."""
    return isinstance(error, BlockingIOError) or (
        isinstance(error, RuntimeError) and "can't start new thread" in str(error)
    )


def is_the_machine(error: BaseException) -> bool:
    """Whether an exception of a library that reads or encodes says that the machine gives it no more of something."""
    return ran_out(error) or no_thread(error) or getattr(error, "errno", None) in _NEVER_A_FILE
