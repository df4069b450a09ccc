"""Evaluation tables, curves and GIFs of a finished run."""

import dataclasses
import json
import re
import warnings

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from PIL import Image
from rich.console import Console

from jaxrl.cli import flags
from jaxrl.cli.rating_curves import RatingCurve, draw_ratings
from jaxrl.runs.config import RunConfig, Sweep
from jaxrl.runs.curves import bootstrap_interval, carried_forward, draw, interquartile_mean
from jaxrl.runs.evaluation import print_table
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.fonts import families_for
from jaxrl.runs.metrics import MetricsWriter
from jaxrl.runs.progress import describe_returns, human
from jaxrl.runs.recipes import hyperparameters
from jaxrl.training import Episodes


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


def test_evaluate_prints_the_table_that_training_ended_with(jaxrl, trained):
    outcome = jaxrl("evaluate", trained, "--episodes", 4)
    assert outcome.code == 0
    returns = np.array(json.loads((trained / "evaluation.json").read_text())["returns"])
    for seed in (0, 1):
        row = numbers(outcome.out.split(f"│ {seed} ")[1])
        expected = [returns[seed].mean(), returns[seed].std(ddof=1) / 2, returns[seed].min()]
        np.testing.assert_allclose(row[:3], expected, atol=0.006)
    means = returns.mean(1)
    summary = numbers(outcome.out.split("all 2")[1])
    np.testing.assert_allclose(summary[:3], [means.mean(), abs(means[0] - means[1]) / 2, returns.min()], atol=0.006)
    assert f"worst seed: {means.argmin()}, mean return {means.min():.2f}" in outcome.out


def test_no_seed_is_the_worst_of_equal_ones(capsys):
    config = RunConfig("ppo", "CartPole-v1", 0, 2, 1, 1, 1, {}, {})
    for last, said in ((500.0, False), (499.0, True)):
        returns = np.array([[500.0, 500.0], [500.0, last]])
        print_table(config, Episodes(returns, returns, returns > 0), Console(), explore=False)
        assert ("worst seed: 1" in capsys.readouterr().out) == said


def test_other_seeds_and_exploration_give_other_episodes(jaxrl, trained):
    tables = [jaxrl("evaluate", trained, "--episodes", 8, *more).out for more in ([], ["--seed", 1], ["--explore"], [])]
    assert len(set(tables)) == 3 and tables[0] == tables[3]
    assert "sampled actions" in tables[2]


def test_a_gif_shows_every_step_of_an_episode(jaxrl, trained, tmp_path):
    outcome = jaxrl("evaluate", trained, "--episodes", 2, "--gif", tmp_path / "pictures" / "a.gif", "--gif-seed", 1)
    assert outcome.code == 0, outcome.error
    (total,) = numbers(outcome.out.split("returns")[-1])
    with Image.open(tmp_path / "pictures" / "a.gif") as gif:
        assert gif.n_frames == total  # CartPole pays 1 a step
        first = np.asarray(gif.convert("L"), float)
        gif.seek(gif.n_frames - 1)
        last = np.asarray(gif.convert("L"), float)
    assert (first < 60).any(), "there is a black cart"
    assert (first[80:] != last[80:]).any(), "it moves"
    outcome = jaxrl("evaluate", trained, "--gif", tmp_path / "b.gif", "--gif-seed", 2)
    assert outcome.code == 2 and "seed: got 2," in outcome.error and "has the seeds 0 to 1" in outcome.error


def test_minatar_has_pictures_and_bandits_have_none(tmp_path):
    import jax

    from jaxrl import envs
    from jaxrl.agents import reinforce
    from jaxrl.envs.wrappers import time_limit
    from jaxrl.networks import MLP
    from jaxrl.runs.errors import ConfigError
    from jaxrl.runs.pictures import draw_episodes, record_episodes

    for name, drawn in (("Breakout-MinAtar", True), ("Pendulum-v1", True), ("SimpleBandit-bsuite", False)):
        env, params = envs.make(name)
        env = envs.window(time_limit(env, 9), 2)
        agent = reinforce(envs.spec(env, params), torso=MLP(hidden=(4,)))
        state = agent.init(jax.random.key(0))
        recorded = record_episodes(
            jax.random.key(1), agent, state, env, params, num_episodes=2, max_steps=3, explore=True
        )
        assert [len(episode.env_states) for episode in recorded][0] <= 3
        if drawn:
            draw_episodes(tmp_path / "a.gif", env, params, recorded)
            with Image.open(tmp_path / "a.gif") as gif:
                assert gif.n_frames == sum(len(episode.env_states) for episode in recorded)
        else:
            with pytest.raises(ConfigError, match="no picture of SimpleBandit-bsuite"):
                draw_episodes(tmp_path / "b.gif", env, params, recorded)


def test_plot_of_one_and_of_many(jaxrl, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert jaxrl("plot", trained, "--out", "one.png").out == "drawn: one.png"
    assert jaxrl("plot", trained, trained).out == "drawn: curves.png"
    assert jaxrl("plot", trained, "--metric", "entropy", "--out", "sub/entropy.pdf").code == 0
    assert (tmp_path / "sub" / "entropy.pdf").read_bytes().startswith(b"%PDF")
    pictures = [np.asarray(Image.open(tmp_path / name).convert("RGB")) for name in ("one.png", "curves.png")]
    assert all((picture != 255).any() for picture in pictures)
    assert pictures[0].shape[1] < pictures[1].shape[1], "the legend of many lies beside the curves"
    outcome = jaxrl("plot", trained, "--metric", "los")
    assert outcome.code == 2 and "no column 'los', did you mean 'loss'?" in outcome.error
    for name in ("picture.xyz", "sub"):
        outcome = jaxrl("plot", trained, "--out", name)
        assert outcome.code == 2 and f"--out: got {name}, must be a file that ends in one of .png" in outcome.error


def run_with_curves(path, *, seeds, points, sweep=None, missing=()):
    """A run folder with returns of 10 x member + point, and none for the members in ``missing``."""
    parts = flags.parse(["ppo", "CartPole-v1"])[0].parts
    hyper = {name: parameter.default for name, parameter in hyperparameters("ppo").items()}
    config = RunConfig("ppo", "CartPole-v1", 0, seeds, 10**6, 8, 32, parts, hyper, sweep)
    folder = RunFolder(path)
    folder.create(config)
    for point in range(1, points + 1):
        returns = np.arange(config.num_members) * 10.0 + point
        returns[list(missing)] = np.nan
        MetricsWriter(folder.metrics_file, config).append(point, 256 * point, {"episode_return": returns})
    return folder


@pytest.fixture
def figures(monkeypatch):
    from matplotlib import pyplot

    kept = []
    monkeypatch.setattr(pyplot, "close", kept.append)
    yield kept
    monkeypatch.undo()
    for figure in kept:
        pyplot.close(figure)


def labels(figure):
    legend = figure.axes[0].get_legend() or figure.legends[0]
    return [text.get_text() for text in legend.get_texts()]


SINGLE, MIDDLE, INTERVAL = "single seeds", "interquartile mean", "its 95% bootstrap interval"


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [
        (1, ["one seed"]),
        (2, [SINGLE, "mean of 2 seeds"]),
        (3, [SINGLE, "mean of 3 seeds"]),
        (4, [SINGLE, "mean of 4 seeds", MIDDLE, INTERVAL]),
    ],
)
@pytest.mark.parametrize("points", [1, 3])
def test_few_points_of_few_seeds_are_seen(tmp_path, figures, seeds, expected, points):
    draw([run_with_curves(tmp_path / "run", seeds=seeds, points=points)], tmp_path / "curve.png")
    (axes,) = figures[0].axes
    assert axes.get_xlim()[0] == 0 and axes.get_xlim()[1] > points * 256
    assert sorted(labels(figures[0])) == sorted(expected)
    lines = {line.get_label(): line for line in axes.lines}
    mean = lines[next(label for label in expected if label.startswith(("one", "mean")))]
    np.testing.assert_array_equal(mean.get_xdata(), 256.0 * np.arange(1, points + 1))
    np.testing.assert_allclose(mean.get_ydata(), 10 * np.arange(seeds).mean() + np.arange(1, points + 1))
    assert mean.get_marker() == "o", "a single point of a line without markers is nothing"
    assert {line.get_color() for line in axes.lines} == {"C0"}
    if seeds == 4:  # a band of one point is nothing either
        assert (len(axes.containers), len(axes.collections)) == ((1, 1) if points == 1 else (0, 1))


@pytest.mark.parametrize("seeds", [1, 3])
def test_ratings_hide_nothing(tmp_path, figures, seeds):
    steps, elo = np.array([0, 5000, 10_000]), np.tile([0.0, 100.0, 200.0], (seeds, 1))
    anchors = {"random": np.zeros(seeds), "uct, 100 simulations": np.full(seeds, 50.0)}
    draw_ratings(RatingCurve(steps, elo, np.full_like(elo, 9.0), anchors), "a title", tmp_path / "elo.png")
    (axes,), (legend,) = figures[0].axes, figures[0].legends
    assert axes.get_xlim()[0] < -100, "the caps of the first error bar are wider than it"
    assert {"random", "uct, 100 simulations"} < set(labels(figures[0]))
    assert legend.get_window_extent().y1 < axes.get_window_extent().y0


@pytest.mark.parametrize("seeds", [1, 4])
@pytest.mark.parametrize("runs", [1, 2])
def test_a_band_has_the_color_of_its_line_and_lies_around_it(tmp_path, figures, seeds, runs):
    folders = [run_with_curves(tmp_path / f"run{number}", seeds=seeds, points=20) for number in range(runs)]
    draw(folders, tmp_path / "curve.png")
    (axes,) = figures[0].axes
    lines = [line for line in axes.lines if line.get_linewidth() == 1.8]
    assert [line.get_color() for line in lines] == ["C0", "C1"][:runs] and len(axes.collections) == (seeds > 3) * runs
    for line, band in zip(lines, axes.collections, strict=False):
        assert to_rgba(line.get_color(), 0.25) == tuple(band.get_facecolor()[0])
        np.testing.assert_allclose(line.get_ydata(), 15 + np.arange(1, 21), err_msg="the interquartile mean")
        low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
        assert low < line.get_ydata()[0] and line.get_ydata()[-1] < high


def test_evaluations_are_drawn_where_there_are_any(tmp_path, figures):
    def evaluated(name, seeds):
        folder = run_with_curves(tmp_path / name, seeds=seeds, points=0)
        writer = MetricsWriter(folder.metrics_file, folder.read_config())
        for point in range(1, 5):
            evaluation = np.full(seeds, 100.0 * point if point % 2 == 0 else np.nan)
            writer.append(point, 256 * point, {"episode_return": np.full(seeds, 1.0), "evaluation_return": evaluation})
        return folder

    one, other = evaluated("one", 2), run_with_curves(tmp_path / "other", seeds=2, points=3)
    draw([one], tmp_path / "curve.png")
    assert "greedy evaluation, mean" in labels(figures[0])
    draw([one, other], tmp_path / "curve.png")
    assert labels(figures[1])[-1] == "greedy evaluation"
    for figure in figures:
        (line,) = [line for line in figure.axes[0].lines if line.get_marker() == "D"]
        np.testing.assert_array_equal(line.get_xydata(), [[512, 200], [1024, 400]])
    draw([one], tmp_path / "curve.png", "evaluation_return")
    np.testing.assert_array_equal(figures[2].axes[0].lines[-1].get_ydata(), [200, 200, 400])


def test_a_game_is_drawn_by_its_score_against_an_opponent(tmp_path, figures):
    """The returns of self-play are the last mover's result, which is no measure of strength."""
    alone, game = (run_with_curves(tmp_path / name, seeds=1, points=2) for name in ("alone", "game"))
    game.snapshot_folder.mkdir()
    with pytest.raises(ValueError, match=f"has no scores against an opponent yet.* jaxrl elo {game.path}"):
        draw([game], tmp_path / "curve.png")
    writer = MetricsWriter(game.scores_file, game.read_config())
    for update, score in ((0, 0.5), (2, 0.75)):
        writer.append(update, 256 * update, {"evaluation_score": np.array([score])})
    for folders, metric, name in (
        ([alone], None, "episode return"),
        ([game], None, "score against random: 1 for a win, 0.5 for a draw"),
        ([game], "episode_return", "last mover's result"),
        ([alone, game], None, "episode return"),
    ):
        draw(folders, tmp_path / "curve.png", metric)
        assert figures[-1].axes[0].get_ylabel() == name
    np.testing.assert_array_equal(figures[1].axes[0].lines[0].get_xydata(), [[0, 0.5], [512, 0.75]])


def test_any_name_of_a_run_can_be_drawn(jaxrl, tmp_path, figures, monkeypatch):
    """Characters that no font here has are replaced and said, without a warning; markup is drawn as it is written."""
    folders = [run_with_curves(tmp_path / name, seeds=1, points=2) for name in ("中文-1", "_hidden", "cost$a_b$")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome = jaxrl("plot", *(folder.path for folder in folders), "--out", tmp_path / "curve.png")
    assert outcome.code == 0 and outcome.error == ""
    known = families_for(["中文"])[1] == set()
    assert labels(figures[0]) == ["中文-1" if known else "run 1-1", " _hidden", r"cost\$a_b\$"]
    assert known or "'run 1-1' stands for '中文-1', which no installed font can draw" in outcome.out
    # STIX is installed with matplotlib, and has characters that DejaVu lacks.
    families, missing = families_for(["plain 𝝥"])
    assert families[0] == "sans-serif" and len(families) == 2 and not missing
    assert families_for(["plain"]) == (["sans-serif"], set())


def test_a_sweep_has_a_curve_a_value_and_a_key_of_the_lines(tmp_path, figures):
    sweep = Sweep.grid({"learning_rate": (1e-4, 3e-4)})
    folder = run_with_curves(tmp_path / "run", seeds=4, points=30, sweep=sweep)
    draw([folder], tmp_path / "curve.png")
    assert labels(figures[0]) == ["0.0001", "0.0003", " ", MIDDLE, INTERVAL, "mean", SINGLE]
    assert figures[0].legends[0].get_title().get_text() == "learning_rate"
    assert figures[0].axes[0].get_title() == "ppo on CartPole-v1"
    lines = {line.get_label(): line for line in figures[0].axes[0].lines}
    assert lines["0.0003"].get_ydata()[0] == pytest.approx(10 * np.mean([4, 5, 6, 7]) + 1)
    assert lines["0.0003"].get_marker() == "None", "many points are a line"
    folder = run_with_curves(tmp_path / "half", seeds=2, points=3, sweep=sweep, missing=[3])
    draw([folder], tmp_path / "curve.png")
    assert "0.0003 (nothing to show yet)" in labels(figures[1])
    plain = run_with_curves(tmp_path / "plain", seeds=2, points=3)
    draw([plain, folder], tmp_path / "curve.png")
    assert labels(figures[2])[:2] == ["plain", "half learning_rate=0.0001"], "what is not in common is said"


def test_runs_are_told_apart_by_their_names_or_their_paths(tmp_path, figures):
    runs = [run_with_curves(tmp_path / name, seeds=1, points=2) for name in ("a/x", "a/y", "b/x")]
    draw(runs[:2], tmp_path / "curve.png")
    assert labels(figures[0]) == ["x", "y"]
    draw(runs, tmp_path / "curve.png")
    assert labels(figures[1]) == ["a/x", "a/y", "b/x"], "as much of a path as differs"
    draw(runs * 4, tmp_path / "curve.png")
    colors = {str(line.get_color()) for line in figures[2].axes[0].lines}
    assert len(colors) == 12


def test_runs_that_the_command_named_are_called_by_what_differs(tmp_path, figures):
    def run(time, recipe="ppo", **hyper):
        folder = run_with_curves(tmp_path / f"{recipe}-CartPole-v1-20260101-{time:06}", seeds=1, points=2)
        values = {**folder.read_config().hyperparameters, **hyper}
        config = flags.parse([recipe, "CartPole-v1"])[0]
        if recipe == "ppo":
            config = dataclasses.replace(folder.read_config(), hyperparameters=values)
        folder.write_config(dataclasses.replace(config, seeds=1))
        return folder

    first, other, both, dqn = run(1), run(2, gamma=0.5), run(3, gamma=0.5, gae_lambda=0.1), run(4, "dqn")
    gamma, gae_lambda = (hyperparameters("ppo")[name].default for name in ("gamma", "gae_lambda"))
    for runs, expected in (
        ([first, other], [f"gamma={gamma}", "gamma=0.5"]),
        ([first, both], [f"gamma={gamma} gae_lambda={gae_lambda}", "gamma=0.5 gae_lambda=0.1"]),
        ([first, dqn], ["ppo", "dqn"]),
        ([run_with_curves(tmp_path / "mine", seeds=1, points=2), dqn], ["ppo: mine", "dqn"]),
        ([first, other, dqn], [f"ppo: gamma={gamma}", "ppo: gamma=0.5", "dqn"]),
        ([first, first], [first.path.name] * 2),
    ):
        draw(runs, tmp_path / "curve.png")
        assert labels(figures[-1]) == expected


def test_a_run_with_nothing_to_draw_says_so(jaxrl, tmp_path):
    folder = run_with_curves(tmp_path / "run", seeds=2, points=2, missing=[1])
    outcome = jaxrl("plot", folder.path)
    assert outcome.code == 2 and "column 'episode_return' does not have a number for every seed yet" in outcome.error
    for text, said in (("update,env_steps,member,seed,episode_return\n", "no complete rows"), ("", "is empty")):
        folder.metrics_file.write_text(text)
        outcome = jaxrl("plot", folder.path)
        assert outcome.code == 2 and f"{folder.metrics_file}" in outcome.error and said in outcome.error
        assert "the run has not finished its first chunk of updates" in outcome.error
    folder.metrics_file.unlink()
    outcome = jaxrl("plot", folder.path)
    assert outcome.code == 2 and "metrics.csv does not exist: the run has not finished" in outcome.error


def test_gaps_are_filled_with_what_was_known():
    values = np.array([[np.nan, 1.0, np.nan, 3.0, np.nan]])
    np.testing.assert_array_equal(carried_forward(values), [[np.nan, 1, 1, 3, 3]])


def test_the_interquartile_mean_is_that_of_the_middle_half():
    seeds = np.array([[-100.0], [1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [1000.0]])
    np.testing.assert_allclose(interquartile_mean(seeds), [np.mean([2.0, 3.0, 4.0, 5.0])])


def test_the_interval_holds_the_estimate_and_shrinks_with_seeds():
    draws = np.random.default_rng(0).normal(size=(64, 3))
    few, many = bootstrap_interval(draws[:8]), bootstrap_interval(draws)
    for seeds, (low, high) in ((draws[:8], few), (draws, many)):
        assert (low < interquartile_mean(seeds)).all() and (interquartile_mean(seeds) < high).all()
    assert (many[1] - many[0] < few[1] - few[0]).all()
    np.testing.assert_array_equal(bootstrap_interval(np.ones((4, 2))), np.ones((2, 2)))
    assert bootstrap_interval(np.ones((1, 2))) is None


def test_counts_are_read_at_a_glance():
    assert [human(number) for number in (0, 999, 1000, 12_345, 999_999, 2.5e6)] == [
        "0",
        "999",
        "1.00k",
        "12.3k",
        "1.00M",
        "2.50M",
    ]


def test_the_bar_shows_the_best_value_of_a_sweep():
    config = RunConfig("ppo", "CartPole-v1", 0, 2, 1, 1, 1, {}, {}, Sweep.grid({"gamma": (0.9, 0.99)}))
    returns = np.array([1.0, 3.0, 10.0, np.nan])
    assert describe_returns(config, returns) == "best: 0.99, return 10.0 ± 0.0"
    assert describe_returns(config, np.array([11.0, 12.0, 10.0, 9.0])) == "best: 0.9, return 11.5 ± 0.5"
    assert describe_returns(config, np.full(4, np.nan)) == "no episode ended yet"
