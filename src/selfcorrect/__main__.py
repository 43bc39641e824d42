"""`python -m selfcorrect` is `selfcorrect`."""

from selfcorrect.cli import main

if __name__ == "__main__":
    main()
