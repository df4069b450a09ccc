"""AlphaZero measured by all lines of play, by an exact solver, and against opponents.

    python -m benchmarks.alphazero tic_tac_toe RUN    # does it ever lose, miss a win in one, or fail to block one?
    python -m benchmarks.alphazero connect_four RUN   # against random and UCT; its moves beside the exact ones

A RUN is a folder of ``jaxrl train alphazero pgx/...``; all its seeds are measured. Actions are those of
``act(explore=False)``, with as many simulations as it was trained with or ``--simulations``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import connect_four, tic_tac_toe
from benchmarks.learning import describe_machine
from benchmarks.positions import make_decide, observe
from jaxrl.runs.building import Built
from jaxrl.runs.config import RunConfig
from jaxrl.runs.loading import restore_players
from jaxrl.runs.matches import play_members, random_side, side_of, uct_side


class Verdict(NamedTuple):
    """What a policy over all positions of tic-tac-toe does.

    Attributes:
      lost: lines of play that it loses, as the first and as the second player.
      lines: all lines of play, against every reply, as the first and as the second player.
      wins_missed, wins: positions with a win in one where it takes none, and how many there are.
      blocks_missed, blocks: positions with no win in one where to block a loss in one holds the game, and it does not.
      idle, lost_anyway: the same where the game is lost whatever is played, so that the best play need not block.
      wrong: positions where its move gives away what the position is worth.
      positions: how many there are.
    """

    lost: tuple[int, int]
    lines: tuple[int, int]
    wins_missed: int
    wins: int
    blocks_missed: int
    blocks: int
    idle: int
    lost_anyway: int
    wrong: int
    positions: int


def judge(policy: dict[tic_tac_toe.Board, int]) -> Verdict:
    """Follows a policy through every line of play, and looks at each of its moves."""
    game = tic_tac_toe
    lost, lines = zip(*(_follow(policy, game.EMPTY, ours) for ours in (True, False)), strict=True)
    wins = [board for board in policy if game.winning(board)]
    blocks = [board for board in policy if game.blocking(board) and not game.winning(board)]
    held = [board for board in blocks if game.outcome(board) >= 0]
    left_open = {board for board in blocks if policy[board] not in game.blocking(board)}
    return Verdict(
        lost=lost,
        lines=lines,
        wins_missed=sum(policy[board] not in game.winning(board) for board in wins),
        wins=len(wins),
        blocks_missed=len(left_open.intersection(held)),
        blocks=len(held),
        idle=len(left_open.difference(held)),
        lost_anyway=len(blocks) - len(held),
        wrong=sum(game.outcomes(board).get(policy[board], -2) < game.outcome(board) for board in policy),
        positions=len(policy),
    )


def _follow(policy: dict[tic_tac_toe.Board, int], board: tic_tac_toe.Board, ours: bool) -> tuple[int, int]:
    """``(lines lost, lines)`` from a board on; an illegal move loses."""
    legal = tic_tac_toe.legal(board)
    if not legal:
        return int(ours and tic_tac_toe.lost(board)), 1
    moves = [policy[board]] if ours else legal
    if moves[0] not in legal:
        return 1, 1
    found = [_follow(policy, tic_tac_toe.play(board, cell), not ours) for cell in moves]
    return sum(lost for lost, _ in found), sum(lines for _, lines in found)


def measure_tic_tac_toe(run: str, simulations: int | None, keys: int) -> bool:
    """Prints a row for each seed and key; returns whether nothing was lost or missed."""
    config, built, states = _restore(run, "pgx/tic_tac_toe", simulations)
    lines = tic_tac_toe.positions()
    observations, decide, fine = observe(built.env, built.params, list(lines.values())), make_decide(built), True
    print(
        "| seed | key | lines lost as first | as second | wins in one missed | blocks missed | in lost games "
        "| wrong moves |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for member in range(config.num_members):
        for key in range(keys):
            actions = decide(states, member, observations, key).tolist()
            found = judge(dict(zip(lines, actions, strict=True)))
            lost = [f"{lost} of {of}" for lost, of in zip(found.lost, found.lines, strict=True)]
            print(
                f"| {member} | {key} | {lost[0]} | {lost[1]} | {found.wins_missed} of {found.wins} "
                f"| {found.blocks_missed} of {found.blocks} | {found.idle} of {found.lost_anyway} "
                f"| {found.wrong} of {found.positions} |",
                flush=True,
            )
            fine &= not (sum(found.lost) or found.wins_missed or found.blocks_missed)
    return fine


def wrong_moves(outcomes: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """``[P]`` bool: the move's outcome is worse than the best one's; ``outcomes [P, A]`` are exact."""
    return outcomes[np.arange(len(actions)), actions] < outcomes.max(axis=1)


def exact_outcomes(lines: Iterable[Sequence[int]]) -> np.ndarray:
    """``[P, 7]``, the exact outcome of every column after lines of connect four."""
    solver = connect_four.Solver()
    return np.array([solver.outcomes(connect_four.board_of(list(line))) for line in lines])


def measure_connect_four(
    run: str, simulations: int | None, uct_simulations: int | None, games: int, positions: int, seed: int
) -> None:
    """Prints a row for each seed: points against random and UCT, and the share of wrong moves."""
    config, built, states = _restore(run, "pgx/connect_four", simulations)
    own = config.hyperparameters["num_simulations"]
    rival = uct_simulations or 10 * own
    lines = connect_four.random_lines(positions, seed)
    start = time.perf_counter()
    outcomes = exact_outcomes(lines)
    legal = outcomes != connect_four.ILLEGAL
    worse = (outcomes < outcomes.max(axis=1, keepdims=True)) & legal
    share = {"of them have a wrong move": worse.any(axis=1), "of random moves are wrong": worse.sum(1) / legal.sum(1)}
    print(
        f"{positions} positions of random games (seed {seed}), 14 to {max(map(len, lines))} stones, solved in "
        f"{time.perf_counter() - start:.0f} s; " + ", ".join(f"{x.mean():.1%} {what}" for what, x in share.items()),
        end=".\n\n",
    )
    actions = _all_actions(config, built, states, observe(built.env, built.params, lines))
    side = side_of(run, built, states)
    others = [random_side(built), uct_side(built, rival)] if games else []
    scores = [play_members(built, side, other, num_games=games, seed=seed) for other in others]
    print(f"{own} simulations a move; {games} games against each, half of them begun.\n")
    columns = [cell for other in others for cell in (f"points against {other.name}", "won, drawn, lost")]
    print(_row("seed", *columns, "wrong moves"))
    print("|---" * (2 + len(columns)) + "|")
    shares = np.stack([wrong_moves(outcomes, row).mean() for row in actions])
    for member in range(config.num_members):
        cells = []
        for score in scores:
            counts = ", ".join(str(int(np.asarray(column)[member].sum())) for column in score)
            cells += [f"{np.asarray(score.points)[member]:.1%}", counts]
        print(_row(str(member), *cells, f"{shares[member]:.1%}"), flush=True)
    means = [cell for score in scores for cell in (f"{np.mean(np.asarray(score.points)):.1%}", "")]
    print(_row("mean", *means, f"{shares.mean():.1%}"))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _all_actions(config: RunConfig, built: Built, states: Any, observations: Any) -> np.ndarray:
    decide = make_decide(built)
    return np.stack([decide(states, member, observations) for member in range(config.num_members)])


def _restore(run: str, environment: str, simulations: int | None) -> tuple[RunConfig, Built, Any]:
    config, built, states = restore_players(run, simulations=simulations)
    if config.environment != environment:
        raise SystemExit(f"{run} was trained in {config.environment}, must be a run in {environment}")
    print(f"Measured on {describe_machine()}: {config.recipe} on {environment}, {config.num_steps:,} steps per seed\n")
    return config, built, states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    exhaustive = commands.add_parser("tic_tac_toe", help="follow every line of play")
    exhaustive.add_argument("--keys", type=int, default=1, help="number of keys, for an agent whose moves are random")
    exact = commands.add_parser("connect_four", help="matches with opponents, and an exact solver")
    exact.add_argument("--uct-simulations", type=int, help="simulations per move of UCT; 10 times the run's by default")
    exact.add_argument("--games", type=int, default=256, help="games against each opponent; 0 for none")
    exact.add_argument("--positions", type=int, default=500)
    exact.add_argument("--seed", type=int, default=0, help="seed of the positions and the games")
    for command in (exhaustive, exact):
        command.add_argument("run")
        command.add_argument("--simulations", type=int, help="simulations per move; by default as in training")
    given = parser.parse_args()
    if given.command == "tic_tac_toe":
        fine = measure_tic_tac_toe(given.run, given.simulations, given.keys)
        print("\nNothing lost, missed or left open." if fine else "\nThe target is missed.")
    else:
        measure_connect_four(
            given.run, given.simulations, given.uct_simulations, given.games, given.positions, given.seed
        )


if __name__ == "__main__":
    main()
