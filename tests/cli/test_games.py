"""Games for two at the command line: trained, evaluated, rated, and played by somebody who types."""

import io
import json
import re
import shutil

import jax
import pytest

from jaxrl.cli import flags
from jaxrl.cli.main import main
from jaxrl.cli.tournament import pairings
from jaxrl.runs import session
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import restore_players

DQN = ("--num-envs", "4", "--rollout-length", "8", "--torso.hidden", "8", "--learning-starts", "64")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tic-tac-toe run of two seeds and 40 updates."""
    folder = tmp_path_factory.mktemp("games") / "run"
    patch = pytest.MonkeyPatch()
    patch.setattr(session, "MIN_STEPS", 1)
    arguments = ["train", "dqn", "pgx/tic_tac_toe", "--seeds", "2", "--steps", "1280", "--eval-episodes", "8", *DQN]
    assert main([*arguments, "--out", str(folder)]) == 0
    patch.undo()
    return folder


def shares(line):
    return [float(share) for share in re.findall(r"([\d.]+)%", line)]


def test_a_run_ends_with_games_against_random_and_keeps_its_players(run):
    scores = json.loads((run / "evaluation.json").read_text())
    assert scores["opponent"] == "random"
    games = [
        sum(scores[name][seed][half] for name in ("wins", "draws", "losses")) for seed in (0, 1) for half in (0, 1)
    ]
    assert games == [4, 4, 4, 4]
    taken = sorted(int(path.name) for path in (run / "snapshots").iterdir() if path.name.isdecimal())
    assert (taken[0], taken[-1], len(taken)) == (0, 40, 11)


def test_a_damaged_snapshot_is_not_needed_where_there_is_a_checkpoint(run, jaxrl, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    for path in (copy / "snapshots" / "40").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    for whole, restored in zip(*(jax.tree.leaves(restore_players(path)[2]) for path in (run, copy)), strict=True):
        assert (whole == restored).all()
    shutil.rmtree(copy / "checkpoints")
    refused = jaxrl("evaluate", copy, "--episodes", 2)
    assert refused.code == 1 and f"checkpoint 40 in {copy / 'snapshots'} is torn" in refused.error


@pytest.mark.parametrize(
    ("arguments", "title"),
    [
        ([], "against random: 8 games per seed"),
        (["--opponent", "uct", "--opponent-simulations", "8"], "against uct with 8 simulations: 8 games per seed"),
        (
            ["--opponent", "SELF", "--opponent-update", "4"],
            "against .* of update 4: 8 games per seed, each after 2 random moves",
        ),
    ],
)
def test_evaluate_plays_matches(run, jaxrl, arguments, title):
    arguments = [str(run) if word == "SELF" else word for word in arguments]
    outcome = jaxrl("evaluate", run, "--episodes", "8", *arguments)
    assert outcome.code == 0, outcome.error
    assert re.search(f"dqn on pgx/tic_tac_toe {title}", outcome.out)
    everybody = shares(outcome.out.partition("all 2")[2].partition("worst")[0])
    won, drawn, lost, points, first, second = everybody[:6]
    assert won + drawn + lost == pytest.approx(100, abs=0.2) and points == pytest.approx(won + drawn / 2, abs=0.1)
    assert points == pytest.approx((first + second) / 2, abs=0.1)


def test_elo_rates_the_snapshots_and_draws_them(run, jaxrl, tmp_path):
    out = tmp_path / "elo.png"
    outcome = jaxrl("elo", run, "--games", "4", "--uct-simulations", "0", "--predecessors", "1", "--out", out)
    assert outcome.code == 0, outcome.error
    assert "mean of 2 seeds" in outcome.out and re.search(r"│ random │ - │ 0 │ - │ 0 │ 0 │", outcome.out)
    assert all(f"update {update} │ {32 * update} │" in outcome.out for update in (0, 4, 40))
    # 11 snapshots: each meets random, and all but the first the one before it; of two seeds.
    assert outcome.out.startswith("42 matches of 4 games each") and "100% 42/42 matches 0 s left" in outcome.out
    assert out.stat().st_size > 10_000


def test_everybody_meets_the_anchors_and_those_before():
    pairs = pairings(2, 4, 2)
    assert set(pairs) >= {(1, 0), *((snapshot, anchor) for snapshot in range(2, 6) for anchor in (0, 1))}
    assert (5, 4) in pairs and (5, 3) in pairs and (5, 2) not in pairs and len(pairs) == len(set(pairs)) == 14


SQUARES = [f"{column}{row}" for row in "123" for column in "abc"]


@pytest.mark.parametrize("side", [[], ["--first"], ["--second"]])
def test_somebody_plays(run, jaxrl, monkeypatch, side):
    """All squares in turn, each typed twice: what is taken by then is refused, and the game ends."""
    typed = ["help", "d4", "moves", *(square for square in SQUARES for _ in (0, 1))]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(typed)))
    outcome = jaxrl("play", run, *side)
    assert outcome.code == 0, outcome.error
    begins = "dqn begins" if side == ["--second"] else "you begin"
    assert begins in outcome.out and "'d4' is not a move: type a1 to c3" in outcome.out
    assert "moves lists the legal moves" in outcome.out and "is taken; legal: " in outcome.out
    assert re.search(r"dqn \([XO]\) plays [abc][123]", outcome.out)
    assert re.search(r"(you won|you lost|drawn) after \d moves", outcome.out)


def test_somebody_plays_against_a_run_with_a_window(run, jaxrl, monkeypatch, tmp_path):
    """The board is that of the newest step; and a run without a window is no opponent."""
    folder = tmp_path / "windowed"
    arguments = ["--window", "2", "--steps", "64", "--eval-episodes", "0", "--num-envs", "4", "--rollout-length", "8"]
    outcome = jaxrl("train", "a2c", "pgx/tic_tac_toe", *arguments, "--torso.hidden", "8", "--out", folder)
    assert outcome.code == 0, outcome.error
    assert "last mover's result 1.0" in outcome.out or "last mover's result 0." in outcome.out
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(square for square in SQUARES for _ in (0, 1))))
    outcome = jaxrl("play", folder)
    assert outcome.code == 0, outcome.error
    assert "is taken; legal: " in outcome.out and re.search(r"a2c \(O\) plays [abc][123]", outcome.out)
    assert re.search(r"(you won|you lost|drawn) after \d moves", outcome.out)
    outcome = jaxrl("evaluate", folder, "--opponent", run)
    assert outcome.code == 2 and "with 1 step (--window), must be 2 steps like this run" in outcome.error


def test_a_torso_that_remembers_is_refused_before_it_is_trained(jaxrl, tmp_path):
    outcome = jaxrl("train", "ppo", "pgx/tic_tac_toe", "--torso", "gru", "--out", tmp_path / "run")
    assert outcome.code == 2 and not (tmp_path / "run").exists()
    assert "torso: gru has a memory; in pgx/tic_tac_toe, a two-player game, both sides would share it" in outcome.error


@pytest.mark.parametrize("typed", ["quit\n", "a1\n", ""])
def test_somebody_leaves(run, jaxrl, monkeypatch, typed):
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    outcome = jaxrl("play", run)
    assert (outcome.code, outcome.error) == (0, "") and outcome.out.endswith("left the game")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["evaluate", "--opponent", "runs/nope"],
            "must be random, uct, or the folder of a run; there is no such",
        ),
        (["evaluate", "--opponent", "rnadom"], "got 'rnadom', must be .*, did you mean 'random'"),
        (["evaluate", "--opponent-simulations", "3"], "--opponent-simulations: got 3, must be left out for random"),
        (["evaluate", "--opponent-update", "3"], "--opponent-update: got 3 for random, must be left out"),
        (["evaluate", "--simulations", "3"], "simulations: got 3, must be left out: dqn in .* has no search"),
        (["evaluate", "--episodes", "3"], "--episodes: got 3, must be even"),
        (["evaluate", "--explore"], "--explore: not available in a two-player game"),
        (["evaluate", "--gif", "x.gif"], "--gif: not available in a two-player game; jaxrl play shows a game"),
        (["evaluate", "--update", "3"], "update: got 3, must be one of 0, 4, 8"),
        (["play", "--first", "--second"], "--first, --second: got both"),
        (["play", "--seed", "2"], "seed: got 2"),
        (["play", "--simulations", "0"], "--simulations: got 0, must be at least 1"),
        (["elo", "--games", "5"], "--games: got 5, must be even"),
        (["elo", "--seeds", "3"], "--seeds: got 3, must be at most 2"),
        (["elo", "--out", "elo.txt"], "--out: got elo.txt, must be a file that ends in"),
    ],
)
def test_what_is_refused(run, jaxrl, arguments, message):
    outcome = jaxrl(arguments[0], run, *arguments[1:])
    assert outcome.code == 2 and re.search(message, outcome.error), outcome.error


def test_of_two_runs_the_one_that_does_not_search_is_named(run, jaxrl):
    outcome = jaxrl("evaluate", run, "--opponent", run, "--opponent-simulations", "3")
    assert outcome.code == 2 and f"simulations: got 3, must be left out: dqn in {run} has no search" in outcome.error


@pytest.mark.parametrize("arguments", [["play"], ["elo"], ["evaluate", "--opponent", "random"]])
def test_one_player_alone_plays_no_matches(tmp_path, jaxrl, arguments):
    folder = RunFolder(tmp_path / "alone")
    folder.create(flags.parse(["ppo", "CartPole-v1"])[0])
    outcome = jaxrl(arguments[0], folder.path, *arguments[1:])
    assert outcome.code == 2 and "two-player game" in outcome.error and "CartPole-v1" in outcome.error
