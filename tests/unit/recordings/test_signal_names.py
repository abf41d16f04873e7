"""Streams are offered by what their names mean: in devices' spelling, in other languages, and never at random."""

import pytest

from meco_hub.recordings.signal_names import how_to_name, kinds_of, offer

WATCH = ("acc", "bvp", "eda", "temp", "hr", "ibi")


@pytest.mark.parametrize(
    ("meant", "names"),
    [
        (
            "eda",
            "EDA, GSR, EDA_uS, Skin Conductance, SkinConductance, skin_conductance_level, Galvanic skin response, SC",
        ),
        ("eda", "Hautleitwert, Hautleitfähigkeit, Conductance cutanée, conductancia de la piel, 皮电, 皮膚電気"),
        (
            "temp",
            "TEMP, TEMP_degC, SKT, Skin Temperature, Wrist temperature, Hauttemperatur, Température, 皮温, 皮膚温",
        ),
        ("hr", "HR, HR_bpm, Heart Rate, HeartRate, heart_rate, Pulse rate, pulse, Herzfrequenz, Puls, 心率, 心拍"),
        ("hr", "Fréquence cardiaque, frecuencia cardíaca, PPGtoHR, Heart_Rate_PPG_CAL, ECG Heart Rate"),
        ("bvp", "BVP, PPG, ppg_green, Blood Volume Pulse, BloodVolumePulse, Pulse wave, Pleth, Photoplethysmogram"),
        ("ibi", "IBI, RR, RR-interval, Interbeat interval, ECG RR interval"),
        ("acc", "ACC, Accel Channel 0, accelerometer, Beschleunigung"),
    ],
)
def test_a_name_is_offered_for_what_it_means_and_for_nothing_else(meant: str, names: str) -> None:
    for name in names.split(", "):
        assert offer(WATCH, {name: ()}) == ([(name, meant)], []), name


@pytest.mark.parametrize("name", ["Shimmer_1234", "IR", "ST", "Sample rate", "foo", "EXG Channel 0"])
def test_a_name_that_says_nothing_is_no_guess(name: str) -> None:
    assert offer(WATCH, {name: ()}) == ([], [name])


@pytest.mark.parametrize("name", ["marker", "Trigger", "GSR_Skin_Resistance_CAL", "skin impedance", "ECG", "Resp"])
def test_markers_other_sensors_and_resistances_are_no_offer(name: str) -> None:
    assert offer(WATCH, {name: ()}) == ([], [])


def test_what_the_file_says_besides_counts_and_near_spelling_does() -> None:
    assert offer(WATCH, {"Shimmer_1234": ("GSR",), "temb": ()}) == ([("Shimmer_1234", "eda"), ("temb", "temp")], [])


def test_what_was_computed_of_a_sensor_is_no_sensor() -> None:
    assert kinds_of("Heart_Rate_PPG") == kinds_of("HR of ECG") == {"hr"}
    assert kinds_of("ECG II", "ECG") == {"ecg"}


def test_the_choice_is_written_so_that_it_can_be_typed() -> None:
    assert how_to_name({"eda": "Skin Conductance", "hr": "HR"}) == (
        "pass streams={'eda': ['Skin Conductance'], 'hr': ['HR']}, or --streams 'eda=Skin Conductance' hr=HR on the command line"
    )
    assert how_to_name({"eda": "a,b"}) == "pass streams={'eda': ['a,b']}"
