"""Training: a recipe file, one loop on Accelerate, and a folder that the Auto classes load; `loop.py` is where it begins."""
