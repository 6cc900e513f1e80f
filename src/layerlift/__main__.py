"""``python -m layerlift`` is the command line."""

from layerlift.cli import main

if __name__ == "__main__":
    main()
