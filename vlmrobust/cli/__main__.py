"""Run `vlmrobust` as `python -m vlmrobust.cli`."""

from . import main

if __name__ == "__main__":
    main()
