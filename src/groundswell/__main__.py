"""`python -m groundswell` is the `groundswell` command."""

from groundswell.cli.main import run

run()
