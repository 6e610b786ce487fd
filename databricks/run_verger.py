"""Databricks' way into `verger`: its arguments are the task's parameters. A run that fails is an exception there."""

import sys

from verger.cli import main

try:
    main(sys.argv[1:])
except SystemExit as ended:  # which Databricks does not take for an end like any other
    if ended.code:
        raise RuntimeError(f"verger ended with exit code {ended.code}; its message is above") from None
