"""Puts tools/train on the path; run as `python3 -m pytest tools/train/tests`."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
