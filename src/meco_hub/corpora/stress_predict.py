"""Stress-Predict: about an hour of an Empatica E4 wristband on each of 35 people, with baseline and stress tasks.

Iqbal et al. 2022, "Stress monitoring using wearable sensors: a pilot study and Stress-Predict dataset", Sensors 22(21):8135;
MIT. A folder or a zip of it:

    Raw_data/S<nn>/                 ACC, BVP, EDA, TEMP, HR, IBI .csv, as the watch writes them (`recordings/empatica.py`)
    Processed_data/<any>.csv        Participant, Time(sec) since 1970, Label, …: for every second 0 (baseline) or 1 (stress task)

A row is a window of 60 s; windows begin every 30 s from a person's first labelled second on, and one is kept when every second
of it is labelled and at least 80 % of them alike. The six streams keep clocks and rates of their own, and what the watch missed
is missing: intervals between beats are absent from a good part of the windows. Folds are five groups of people
(`assign_folds` with seed 0: labels kept in proportion). People whose labels are missing are left out, and said so.

The label says that a stress task was on. Tasks move the body (hyperventilation, for one), so a model detects the task as much as
stress. The labels' file stamps every heart rate one second earlier than the watch does; at 60 s that is nothing.

This file knows what Stress-Predict is; it does not read it.
"""

from ..labels import LabelSpace
from . import Corpus

LABELS = LabelSpace(
    name="stress_predict",
    names=("baseline", "stress"),
    source="column `Label` of Processed_data/*.csv, 0 and 1 (Iqbal et al. 2022)",
)
FOLDS = 5

corpus = Corpus(
    name="stress_predict",
    kind="signals",
    labels=LABELS,
    description="Stress-Predict: 60-s windows of an Empatica E4 wristband, stress task or baseline; six streams with clocks of "
    "their own, natively incomplete. It is task detection as much as stress.",
    layout="Raw_data/S<nn>/ with the csv files of an Empatica E4, and Processed_data/*.csv with Participant, Time(sec), Label",
    loader="meco_hub.corpora.stress_predict_windows:read",
    reader="meco_hub.corpora.stress_predict_windows:read_row",
    options={
        "window_s": "length of a window in seconds, whole; default 60",
        "stride_s": "seconds from one window to the next, whole; default 30",
        "purity": "share of a window's seconds that must have one label; default 0.8",
        "margin_s": "seconds of the sensors to keep before and after a window, for filters and shifts; default 10",
    },
    citation='Iqbal et al. 2022, "Stress monitoring using wearable sensors: a pilot study and Stress-Predict dataset", '
    "Sensors 22(21):8135",
    licence="MIT",
)
