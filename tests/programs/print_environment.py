"""A job that prints its environment as JSON."""

from __future__ import annotations

import json
import os

print(json.dumps(dict(os.environ)))
