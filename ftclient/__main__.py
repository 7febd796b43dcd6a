"""`python -m ftclient` is the command `ftclient`."""

from ftclient.cli.main import main

if __name__ == "__main__":
    main()
