"""`python -m ostiary.cli` is the command `ostiary`."""

from ostiary.cli.root import main

if __name__ == "__main__":
    main()
