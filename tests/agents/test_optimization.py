"""Steps of the on-policy recipes: the clip of the gradient, annealing, the early stop."""

from functools import partial

import jax
import numpy as np
import optax
import pytest

from jaxrl.agents import a2c, ppo, reinforce

RECIPES = {"reinforce": reinforce, "a2c": a2c, "ppo": ppo}


class TestMaxGradNorm:
    """Under SGD of step 1 the change of the parameters is the gradient."""

    def change(self, kit, max_grad_norm):
        sgd = {"optimizer": optax.sgd, "learning_rate": 1.0, "max_grad_norm": max_grad_norm}
        _, state, trajectory, update = kit.one_step(**sgd)
        new, metrics = update(jax.random.key(0), state, trajectory)
        return kit.difference(new.params, state.params), metrics["gradient_norm"]

    def test_is_the_global_norm(self, kit):
        free, free_norm = self.change(kit, None)
        np.testing.assert_allclose(kit.norm(free), free_norm, rtol=1e-5)
        limit = 0.3 * kit.norm(free)
        clipped, reported = self.change(kit, limit)
        np.testing.assert_allclose(kit.norm(clipped), limit, rtol=1e-5)
        np.testing.assert_allclose(reported, free_norm, rtol=1e-5)
        # All in one direction: clipped element by element it would turn.
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6), clipped, jax.tree.map(lambda x: 0.3 * x, free)
        )

    def test_leaves_small_gradients_alone(self, kit):
        free, _ = self.change(kit, None)
        clipped, _ = self.change(kit, 2.0 * kit.norm(free))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), clipped, free)


class TestAnnealing:
    HORIZON = 4

    def steps(self, kit, make, **options):
        """The norm of the parameters' change in each of six updates on one trajectory, plain SGD, gradient 1."""

        def linear(outputs, batch, settings):
            return outputs.features.sum() + outputs.value.sum(), {"epsilon": settings.clip_epsilon}

        _, state, trajectory, update = kit.one_step(
            make, loss=linear, optimizer=optax.sgd, learning_rate=1e-5, max_grad_norm=None,
            num_updates=self.HORIZON, **options,
        )  # fmt: skip
        changes, epsilons = [], []
        for i in range(self.HORIZON + 2):
            new, metrics = update(jax.random.key(i), state, trajectory)
            changes.append(kit.norm(kit.difference(new.params, state.params)))
            epsilons.append(metrics["epsilon"])
            state = new
        return np.array(changes), np.array(epsilons)

    EXPECTED = np.array([1.0, 0.75, 0.5, 0.25, 0.0, 0.0])

    @pytest.mark.parametrize("make", RECIPES.values(), ids=RECIPES)
    def test_learning_rate(self, kit, make):
        changes, _ = self.steps(kit, make, anneal_learning_rate=True)
        np.testing.assert_allclose(changes / changes[0], self.EXPECTED, atol=0.02)

    def test_learning_rate_counts_updates_not_gradient_steps(self, kit):
        changes, _ = self.steps(kit, ppo, anneal_learning_rate=True, num_epochs=2, num_minibatches=4)
        np.testing.assert_allclose(changes / changes[0], self.EXPECTED, atol=0.02)

    @pytest.mark.parametrize("make", RECIPES.values(), ids=RECIPES)
    def test_off(self, kit, make):
        changes, _ = self.steps(kit, make)
        np.testing.assert_allclose(changes / changes[0], 1.0, atol=0.02)

    def test_clip(self, kit):
        changes, epsilons = self.steps(kit, ppo, anneal_clip=True, clip_epsilon=0.3)
        np.testing.assert_allclose(epsilons, 0.3 * self.EXPECTED, rtol=1e-6)
        np.testing.assert_allclose(changes / changes[0], 1.0, atol=0.02)


class TestTargetKL:
    def params_after(self, kit, **options):
        _, state, trajectory, update = kit.one_step(learning_rate=0.05, **options)
        new, metrics = update(jax.random.key(0), state, trajectory)
        return new.params, metrics

    def test_stops_after_the_epoch_that_went_too_far(self, kit):
        """Any step moves the policy further than this: one epoch in all, and its metrics are not diluted."""
        stopped, metrics = self.params_after(kit, num_epochs=6, target_kl=1e-9)
        one, alone = self.params_after(kit, num_epochs=1)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), stopped, one)
        assert metrics["epochs"] == 1
        np.testing.assert_allclose(metrics["loss"], alone["loss"], rtol=1e-5)

    def test_does_nothing_within_reach(self, kit):
        free, _ = self.params_after(kit, num_epochs=6)
        held, metrics = self.params_after(kit, num_epochs=6, target_kl=1e6)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), held, free)
        assert metrics["epochs"] == 6
        two, _ = self.params_after(kit, num_epochs=2)
        assert kit.norm(kit.difference(free, two)) > 1e-2
