"""Many clips: a manifest's lines become tasks, an executor has them done, and every clip's end is written down once.

It knows no stage of layerlift: a task is a command line, and workers know what to do with it.
"""
