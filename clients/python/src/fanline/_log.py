"""The logger of the package."""

import logging

LOG = logging.getLogger("fanline")
