"""`meco compare`, by its function: cells made, table and pictures written."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..durable import refuse_overwriting, whole_file, write_json
from ..evaluation.pictures import require_matplotlib
from ..shards import join_processes
from . import tables
from .cells import check_cells, read_reports, run_cells
from .plan import Comparison, Plan
from .statistics import Summary, summarise_cells

logger = logging.getLogger(__name__)

FORMS = {"csv": tables.csv_text, "markdown": tables.markdown, "latex": tables.latex}
"""Form of a table → what makes it."""

RESULT = "comparison.json"


def compare(
    comparison: Comparison,
    output_dir: str | Path,
    *,
    data_dir: str | Path | None = None,
    written: Mapping[str, Path] | None = None,
    pictures: str | bool = False,
    finished_only: bool = False,
    overwrite: bool = False,
    trust_recipe_code: bool = False,
    progress: bool = True,
) -> Summary:
    """Carry a comparison out, or go on with it, and write its table.

    Args:
        output_dir: folder of the cells and of `comparison.json`; the same one goes on where it ended.
        data_dir: folder or zip of the corpus; None: the comparison's own.
        written: form ("csv", "markdown", "latex") → the file of the table.
        pictures: False, or what to draw the curves as: "png", "svg", "pdf".
        finished_only: make no cell; the table is of those that are there.
    """
    folder, state = Path(output_dir), join_processes()
    files = dict(written or {})
    named = [data_dir or comparison.data_dir]
    named += [name for one in comparison.models.values() for name in (one.recipe, one.checkpoint, one.sees)]
    read = [Path(name) for name in named if name is not None]
    refuse_overwriting(files.values(), overwrite=overwrite, read=read)
    if pictures:
        require_matplotlib()
    plan = Plan(comparison, data_dir, trust_recipe_code=trust_recipe_code)
    for leak in plan.leaks:
        logger.warning("The division leaks, and the table will say so: %s.", leak)
    if finished_only:
        check_cells(plan.cells, folder)
    else:
        run_cells(plan, folder, progress=progress)
    summary = summarise_cells(plan, read_reports(plan, folder), folder)
    if state.is_main_process:
        result: dict[str, Any] = summary.to_dict()
        write_json(result, folder / RESULT)
        for form, file in files.items():
            with whole_file(file) as partial:
                partial.write_text(FORMS[form](summary), encoding="utf-8")
        if pictures:
            tables.draw_curves(summary, folder, pictures if isinstance(pictures, str) else "png")
    return summary
