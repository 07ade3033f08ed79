"""`python -m convscope`: the command line."""

from convscope.cli.main import main

if __name__ == "__main__":
    main()
