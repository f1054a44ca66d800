"""The same as `vlmrobust`: `python -m vlmrobust.cli`."""

from . import main

if __name__ == "__main__":
    main()
