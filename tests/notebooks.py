"""Runs a tutorial from top to bottom, in a kernel of its own.

python tests/notebooks.py docs/tutorials/*.ipynb       # stores what the cells printed
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient


def run_notebook(path: Path, folder: Path) -> Any:
    """The notebook with its new outputs; raises at the first cell that fails.

    Args:
        path: the notebook.
        folder: where its kernel is started, and where the kernel's description is written.
    """
    notebook = nbformat.read(path, as_version=4)
    # the kernel is this interpreter, whatever kernels are installed
    kernel = folder / "jupyter" / "kernels" / "here"
    kernel.mkdir(parents=True)
    start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.joinpath("kernel.json").write_text(
        json.dumps({"argv": start, "display_name": "here", "language": "python"}), encoding="utf-8"
    )
    before = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = str(folder / "jupyter")
    try:
        NotebookClient(
            notebook, timeout=600, kernel_name="here", resources={"metadata": {"path": str(folder)}}
        ).execute()
    finally:
        if before is None:
            del os.environ["JUPYTER_PATH"]
        else:
            os.environ["JUPYTER_PATH"] = before
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata = {}  # when it ran
            cell.outputs = [one for one in cell.outputs if one.output_type == "stream" and one.name == "stdout"]
    return notebook


def printed(cell: Any) -> str:
    """What a code cell wrote to standard output."""
    return "".join(one.text for one in cell.get("outputs", []) if one.output_type == "stream" and one.name == "stdout")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as root:
            nbformat.write(run_notebook(Path(name), Path(root)), name)
