"""Self-play: AlphaZero learns tic-tac-toe from the rules alone, and then plays against a random player.

This takes a minute or two on a laptop. The network is small, because the search makes up for what it misses.
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp

import jaxrl
from jaxrl import envs
from jaxrl.agents.parts import planning
from jaxrl.agents.players import random_player


def main(num_steps: int = 100_000, num_games: int = 512) -> tuple[float, float, float]:
    """Trains, plays, and returns the shares of games won, drawn and lost."""
    game, params = jaxrl.make("pgx/tic_tac_toe")
    env = envs.expose_state(game)  # the search starts from the simulator's state
    agent = jaxrl.alphazero(
        jaxrl.spec(env, params),
        model=envs.simulator(env, params),
        symmetries=game.symmetries,
        torso=jaxrl.networks.MLP(hidden=(64, 64), activation="relu"),
        # The noise makes training visit every mistake; the value scale makes search values outweigh the prior in play.
        search=partial(planning.gumbel, gumbel_scale=8.0, value_scale=0.5),
        num_simulations=32,
        gamma=0.8,  # below 1, a faster win is worth more
        learning_rate=2e-3,
    )
    opponent = random_player(jaxrl.spec(game, params))
    arena = envs.versus(env, opponent, opponent.init(jax.random.key(0)), params)

    @jax.jit
    def run(key):
        train_key, play_key = jax.random.split(key)
        state, _ = jaxrl.train(train_key, agent, env, params, num_steps=num_steps, num_envs=64, rollout_length=8)
        return jaxrl.evaluate(
            play_key, agent, state.agent, arena, arena.default_params, num_episodes=num_games, max_steps=9
        )

    returns = run(jax.random.key(0)).returns  # 1 for a win, 0 for a draw, -1 for a loss
    won, drawn, lost = (float(jnp.mean(returns == outcome)) for outcome in (1.0, 0.0, -1.0))
    print(f"against random moves, {num_games} games, either side beginning half of them:")
    print(f"won {won:.1%}, drawn {drawn:.1%}, lost {lost:.1%}")
    return won, drawn, lost


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-steps", type=int, default=100_000)
    main(parser.parse_args().num_steps)
