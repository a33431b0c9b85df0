"""The desk: a MuJoCo table with a whiteboard, number tiles or toys, and one arm or two."""

import os
import sys

# Chosen before mujoco is imported anywhere in this package: a machine without a screen renders through EGL.
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")
    # Mesa's software renderer draws in the calling thread: one process a core is how worlds are run.
    os.environ.setdefault("LP_NUM_THREADS", "0")
