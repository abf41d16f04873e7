"""CASE: 30 people watch eight films and steer valence and arousal with a joystick, all the while.

Sharma et al. 2019, "A dataset of continuous affect annotations and physiological signals for emotion analysis", Scientific
Data 6:196; CC BY 4.0. Two forms are read:

    case_20hz.npz       arrays signals (n, 1000, 9) at 20 Hz, channels, affect (n, 1000, 2), fold, subject, video, stimulus,
                        time_ms: 50-s windows of the EPiC 2023 challenge, scenario 2 (folds disjoint in subjects), the
                        signals already turned into heart rate, pulse transit time, skin conductance's parts and so on
    published csv       data/interpolated/physiological/sub_<n>.csv and …/annotations/sub_<n>.csv; see `case_csv.py`

A row of the npz is one person watching one film for 50 s. The challenge's metric is the RMSE per file on seconds 10 to 40,
averaged over the files of a fold and then over folds. Everybody sees the same eight films: a model may win by recognising
the film, so report a predictor that is told the film beside the figure. The signals hold the artefacts of splines, values far
out of any body's range; nothing is clipped here.

This file knows what CASE is; it does not read it.
"""

from . import Corpus, Target
from .modalities import Layout

CHANNELS = ("IHR", "PTT", "EDAPh", "EDATon", "RESP", "TEMP", "TEMGEnv", "ZEMGEnv", "CEMGEnv")
TARGETS = (Target("valence", 0.5, 9.5), Target("arousal", 0.5, 9.5))
RATE = 20.0
"""Hz of signals and ratings in the npz."""

LAYOUTS: dict[str, Layout] = {
    "case_5": {
        "cardiac": ("IHR", "PTT"),
        "eda": ("EDAPh", "EDATon"),
        "resp": ("RESP",),
        "temp": ("TEMP",),
        "emg": ("TEMGEnv", "ZEMGEnv", "CEMGEnv"),
    },
    "case_6": {
        "cardiac": ("IHR", "PTT"),
        "eda": ("EDAPh", "EDATon"),
        "resp": ("RESP",),
        "temp": ("TEMP",),
        "face": ("ZEMGEnv", "CEMGEnv"),
        "shoulder": ("TEMGEnv",),
    },
    "case_9": {channel.lower(): (channel,) for channel in CHANNELS},
}
"""Presets of the npz: the sensors, the sensors with face and shoulder apart, every channel by itself."""

corpus = Corpus(
    name="case",
    kind="signals",
    labels=None,
    description="CASE: valence and arousal steered with a joystick while eight films are watched, with eight physiological "
    "sensors. Time-continuous; everybody sees the same films.",
    layout="case_20hz.npz (signals, channels, affect, fold, subject, video, stimulus, time_ms), or the published folders "
    "data/interpolated/physiological/ and data/interpolated/annotations/ with sub_<n>.csv",
    loader="meco_hub.corpora.case_npz:read",
    reader="meco_hub.corpora.case_npz:read_row",
    options={
        "modalities": f"which channels make a stream: {', '.join(LAYOUTS)} (npz) or case_raw_6 (csv), or a mapping "
        "{stream: [channel, …]}. Default: case_5, case_raw_6",
    },
    targets=TARGETS,
    time_continuous=True,
    scored_seconds=(10.0, 40.0),
    citation='Sharma et al. 2019, "A dataset of continuous affect annotations and physiological signals for emotion '
    'analysis", Scientific Data 6:196',
    licence="CC BY 4.0",
)
