"""A job that takes so much memory, and so much time of the processor.

use_memory.py MIB SECONDS
"""

from __future__ import annotations

import sys
import time

taken = b"x" * (int(sys.argv[1]) << 20)
while time.process_time() < float(sys.argv[2]):
    pass
