"""What `meco compare` does: several models on the same folds and seeds, in one table that says what differences are worth.

plan.py          what is compared: models × folds × seeds, each a cell with a folder and a recipe of its own
baselines.py     predictors that are no network: a constant, a nuisance alone, a straight line, a forest
cells.py         cells carried out: shared by processes, begun where they ended, never made twice, never mixed
statistics.py    means and SD over seeds, differences over people with interval and test
tables.py        the table: terminal, csv, Markdown, LaTeX; and the curves of all models in one picture
"""

__all__: list[str] = []
