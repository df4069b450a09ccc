"""metrics.csv: what is averaged, what is written, what is cut."""

import dataclasses

import numpy as np
import pytest

from jaxrl.runs.config import Sweep
from jaxrl.runs.metrics import MetricsWriter, read_curves, summarize


def chunk(returns, episodes, loss):
    returns = np.array(returns, np.float32)
    return {
        "episodes": np.array(episodes, np.int32),
        "episode_return": returns,
        "episode_length": returns,
        "loss": np.array(loss, np.float32),
    }


def test_returns_are_averaged_over_episodes_and_losses_over_updates():
    # Member 0: 3 episodes of mean 10 and one of 50, so (30 + 50) / 4. Member 1: none ended, which is not a return of 0.
    summary = summarize(chunk([[10, np.nan, 50], [np.nan] * 3], [[3, 0, 1], [0, 0, 0]], [[1, 2, 6], [0, 0, 3]]))
    np.testing.assert_array_equal(summary["episodes"], [4, 0])
    np.testing.assert_array_equal(summary["episode_return"], [20, np.nan])
    np.testing.assert_array_equal(summary["loss"], [3, 1])


def test_updates_without_a_value_are_left_out_of_a_mean():
    summary = summarize(chunk([[1.0] * 3] * 2, [[1, 1, 1]] * 2, [[np.nan, 2, 4], [np.nan] * 3]))
    np.testing.assert_array_equal(summary["loss"], [3, np.nan])


def summary_of(value, members=2):
    returns = np.full((members, 1), value)
    return summarize(chunk(returns, np.isfinite(returns).astype(int), returns))


def test_rows_say_whose_they_are(tmp_path, config):
    writer = MetricsWriter(
        tmp_path / "metrics.csv", dataclasses.replace(config, sweep=Sweep.grid({"gamma": (0.9, 0.99)}))
    )
    writer.append(5, 80, summary_of(1.5, members=4))
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert header == "update,env_steps,member,seed,gamma,episodes,episode_return,episode_length,loss"
    assert rows[0] == "5,80,0,0,0.9,1,1.5,1.5,1.5"
    assert rows[3] == "5,80,3,1,0.99,1,1.5,1.5,1.5"


def test_nothing_to_average_is_an_empty_field_and_reads_as_nan(tmp_path, config):
    path = tmp_path / "metrics.csv"
    writer = MetricsWriter(path, config)
    writer.append(1, 16, summary_of(np.nan))
    writer.append(2, 32, summary_of(7.0))
    assert path.read_text().splitlines()[1] == "1,16,0,0,0,,,"
    curves = read_curves(path, "episode_return", 2)
    np.testing.assert_array_equal(curves.env_steps, [16, 32])
    np.testing.assert_array_equal(curves.values, [[np.nan, 7], [np.nan, 7]])


def test_cut_drops_what_a_checkpoint_does_not_know(tmp_path, config):
    path = tmp_path / "metrics.csv"
    writer = MetricsWriter(path, config)
    for update in (1, 2, 3):
        writer.append(update, 16 * update, summary_of(float(update)))
    whole = path.read_text()
    with path.open("a") as file:
        file.write("4,64,0,0,1,4.")  # killed while it wrote
    np.testing.assert_array_equal(read_curves(path, "loss", 2).env_steps, [16, 32, 48])
    writer.cut(3)
    assert path.read_text() == whole
    writer.cut(2)
    writer.append(3, 48, summary_of(3.0))
    assert path.read_text() == whole
    writer.cut(0)
    assert not path.exists()
    writer.cut(0)


def test_columns_that_come_later_are_empty_before(tmp_path, config):
    path = tmp_path / "metrics.csv"
    MetricsWriter(path, config).append(1, 16, summary_of(1.0))
    later = MetricsWriter(path, config)
    later.append(2, 32, {"loss": np.zeros(2), "epsilon": np.ones(2)})
    later.append(3, 48, {"loss": np.zeros(2), "epsilon": np.ones(2), "wall_time": np.full(2, 9.5)})
    curves = [read_curves(path, name, 2).values[0] for name in ("loss", "epsilon", "episodes")]
    np.testing.assert_array_equal(curves, [[1, 0, 0], [np.nan, 1, 1], [1, np.nan, np.nan]])
    assert later.last_wall_time() == 9.5 and MetricsWriter(tmp_path / "none.csv", config).last_wall_time() == 0


def test_rates_and_counters_are_those_of_the_last_update():
    rows = np.arange(6.0).reshape(2, 3)
    summary = summarize({**chunk(rows, np.ones((2, 3), int), rows), "learning_rate": rows, "gradient_steps": rows})
    assert list(summary["learning_rate"]) == list(summary["gradient_steps"]) == [2, 5]
    assert list(summary["loss"]) == [1, 4]


def test_a_missing_column_is_named(tmp_path, config):
    path = tmp_path / "metrics.csv"
    MetricsWriter(path, config).append(1, 16, summary_of(1.0))
    with pytest.raises(ValueError, match=r"no column 'los', did you mean 'loss'\? \(columns: episodes, "):
        read_curves(path, "los", 2)
    with pytest.raises(ValueError, match="no column 'seed'"):
        read_curves(path, "seed", 2)
    with pytest.raises(ValueError, match="none.csv does not exist: the run has not finished its first chunk"):
        read_curves(tmp_path / "none.csv", "loss", 2)
