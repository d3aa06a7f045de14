"""`python -m rollama` is the `rollama` command."""

from rollama.cli.main import main

main()
