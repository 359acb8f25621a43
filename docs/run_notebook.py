"""Execute a notebook in a kernel: ``python docs/run_notebook.py NOTEBOOK FOLDER``; FOLDER keeps it with its output."""

from __future__ import annotations

import sys
from pathlib import Path

import nbclient
import nbformat

if __name__ == "__main__":
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    notebook = nbformat.read(source, as_version=4)
    nbclient.NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(folder)}}).execute()
    nbformat.write(notebook, folder / source.name)
    pages = [out for cell in notebook.cells for out in cell.get("outputs", []) if "text/html" in out.get("data", {})]
    print(f"{folder / source.name}: executed, {len(pages)} results shown")
