"""Energy: counted where there are counters, None where there are none."""

from pathlib import Path

from meco_hub.training.engine import EnergyMeter


def test_no_counters_no_figure(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path).read() is None


def test_packages_are_summed_and_a_counter_that_starts_over_is_followed(tmp_path: Path) -> None:
    counters = {}
    for name, start in (("intel-rapl:0", 5_000_000), ("intel-rapl:1", 9_000_000), ("intel-rapl:0:0", 1)):
        zone = tmp_path / name
        zone.mkdir()
        counters[name] = zone / "energy_uj"
        counters[name].write_text(f"{start}\n")
        (zone / "max_energy_range_uj").write_text("10000000\n")
    meter = EnergyMeter(tmp_path)
    counters["intel-rapl:0"].write_text("7500000\n")
    counters["intel-rapl:1"].write_text("500000\n")  # 1 J to its end, 0.5 J from its beginning
    counters["intel-rapl:0:0"].write_text("9000000\n")  # part of a package that is counted already
    assert meter.read() == {"cpu_joules": 4.0}
    counters["intel-rapl:0"].write_text("8500000\n")
    assert meter.read() == {"cpu_joules": 5.0}


def test_a_counter_that_may_not_be_read_is_no_counter(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "energy_uj").mkdir()  # reading it raises OSError, as a permission would
    assert EnergyMeter(tmp_path).read() is None
