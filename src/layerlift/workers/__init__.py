"""A process that works for another one: it is asked for calls, one after the other, and keeps its model between them.

See `layerlift.workers.__main__` for what is said between the two.
"""
