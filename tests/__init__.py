"""The tests. At the end of a run they say in one line what was skipped, and how to run it."""

from __future__ import annotations

import atexit
import os
import sys

if not os.environ.get("ODOO_TEST_URL"):
    how = "as root, tests/real_odoo 14 python3 -m unittest (or 19)"
    atexit.register(print, f"Skipped: what needs a real Odoo. To run it: {how}", file=sys.stderr)
