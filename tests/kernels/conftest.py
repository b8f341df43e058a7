import sys
from pathlib import Path

# The oracles are a module of this folder only.
sys.path.insert(0, str(Path(__file__).parent))
