"""``fit``: minibatches, held-out loss and early stopping for any model with a loss per example.

Legend of shapes: N rows of data, B rows of a minibatch, K epochs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl import optim
from jaxrl.arguments import ANY, UNIT, check_callable, check_count, check_float
from jaxrl.ops import across
from jaxrl.types import Array, Metrics, PyTree

Loss = Callable[[PyTree, Array, Any], Array]
"""``(params, key, batch [B]) -> losses [B]``, such as negative log-likelihoods."""


class Fitted(NamedTuple):
    """The result of ``fit``.

    Attributes:
      params: parameters with the lowest held-out loss.
      best: scalar, the lowest held-out loss.
      held_out: ``[K + 1]`` held-out losses before the first epoch and after each; after early stopping the last number
        is repeated. 0 where no row is held out.
      train: scalar, the mean training loss of the last epoch.
      epochs: int32, number of epochs until fitting stopped.
    """

    params: PyTree
    best: Array
    held_out: Array
    train: Array
    epochs: Array

    def metrics(self) -> Metrics:
        """Scalar metrics, averaged over leading axes such as the members of an ensemble."""
        scalars = {
            "held_out_before": self.held_out[..., 0],
            "held_out": self.best,
            "train": self.train,
            "epochs": self.epochs.astype(jnp.float32),
        }
        return {name: value.mean() for name, value in scalars.items()}

    @staticmethod
    def no_metrics() -> Metrics:
        """The metrics where nothing was fitted: NaN."""
        nothing = jnp.full((), jnp.nan, jnp.float32)
        return dict.fromkeys(("held_out_before", "held_out", "train", "epochs"), nothing)


class _Progress(NamedTuple):
    key: Array
    params: PyTree
    optimizer_state: PyTree
    best_params: PyTree
    best: Array
    to_beat: Array  # the held-out loss must fall below this by min_improvement within `patience` epochs
    held_out: Array
    train: Array
    epochs: Array
    since: Array


def held_out_rows(num_rows: int, share: Any) -> Array:
    """Which rows are held out, ``[N]`` bool: a fraction of any range of rows, and row 0 if ``share`` is above 0.

    Whether a row is held out depends only on its index. So a model that is fitted again on more rows was never trained
    on its held-out rows. The rule is ``frac(i phi) < share`` with the golden ratio phi, which avoids regular distances
    (Knuth, TAOCP 6.4).

    Args:
      num_rows: N.
      share: in [0, 1].

    >>> held_out_rows(10, 0.3).tolist()
    [True, False, True, False, False, True, False, False, False, False]
    """
    scrambled = jnp.arange(num_rows, dtype=jnp.uint32) * jnp.uint32(2654435769)
    return (scrambled >> 8).astype(jnp.float32) < jnp.asarray(share, jnp.float32) * 2.0**24


def _indices(mask: Array) -> tuple[Array, Array]:
    """The indices ``[N]`` of the rows where a mask is set, before all others, and their number."""
    return jnp.nonzero(mask, size=mask.shape[0], fill_value=0)[0].astype(jnp.int32), mask.sum(dtype=jnp.int32)


def _spread(rows: Array, count: Array, most: int) -> tuple[Array, Array]:
    """At most ``most`` of the first ``count`` rows, evenly spaced, and a mask of valid ones."""
    position = jnp.arange(most, dtype=jnp.int32)
    even = (position * (count.astype(jnp.float32) / most)).astype(jnp.int32)
    return rows[jnp.where(count > most, even, position)], position < count


def fit(
    key: Array,
    params: PyTree,
    data: PyTree,
    loss: Loss,
    *,
    size: Any = None,
    weight: Array | None = None,
    penalty: Callable[[PyTree], Array] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int = 256,
    max_epochs: int = 100,
    patience: int = 5,
    min_improvement: Any = 1e-3,
    held_out: Any = 0.1,
    max_held_out: int = 1024,
) -> Fitted:
    """Minimises the mean loss of the training rows until the loss of held-out rows stops falling.

    ``params <- params - step(grad(mean_i w_i loss_i + penalty))``. Minibatches are sampled with replacement, and an
    epoch has as many samples as there are training rows. It is pure and jittable: it may run in an agent's update, and
    under ``vmap`` over seeds or members, where it runs until the last of them stops and the others keep their result.

    Args:
      key: consumed.
      params: initial parameters of the model.
      data: leaves ``[N, ...]``, such as an agent's buffer of fixed capacity.
      loss: ``(params, key, batch) -> [B]``, the loss of each row.
      size: int or traced, the number of valid rows at the start of ``data``; None for all.
      weight: ``[N]`` weights of training rows, such as bootstrap weights; None for 1.
      penalty: ``params -> scalar``, added to the training loss only, such as weight decay.
      optimizer: optax optimizer, whose state is initialised in every call; None for Adam with 1e-3.
      batch_size: B.
      max_epochs: K.
      patience: epochs without an improvement after which fitting stops.
      min_improvement: decrease of the held-out loss that counts as an improvement.
      held_out: fraction of held-out rows, see ``held_out_rows``; with 0 all epochs run and the last parameters are
        kept.
      max_held_out: largest number of held-out rows that are evaluated, evenly spaced.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.

    >>> x = jnp.linspace(-1.0, 1.0, 64)
    >>> square = lambda params, key, batch: (params * batch[0] - batch[1]) ** 2
    >>> fitted = fit(jax.random.key(0), jnp.zeros(()), (x, 3.0 * x), square, optimizer=optax.sgd(0.1))
    >>> round(float(fitted.params), 1)
    3.0
    """
    num_rows = _check(data, loss, weight, penalty, batch_size, max_epochs, patience, max_held_out)
    check_float("min_improvement", min_improvement, ANY)
    check_float("held_out", held_out, UNIT)
    adam = optim.averaged(optim.clipped(optax.adam, 1e-3) if optimizer is None else optimizer)
    valid = jnp.arange(num_rows) < (num_rows if size is None else size)
    is_held_out = held_out_rows(num_rows, held_out)
    train_rows, num_train = _indices(valid & ~is_held_out)
    test_rows, num_test = _indices(valid & is_held_out)
    chosen, counts = _spread(test_rows, num_test, min(max_held_out, num_rows))
    key, test_key = jax.random.split(key)
    test_batch = jax.tree.map(lambda leaf: leaf[chosen], data)

    def judge(params: PyTree) -> Array:
        losses = jnp.where(counts, loss(params, test_key, test_batch), 0.0)
        return across.mean(losses.sum() / jnp.maximum(counts.sum(), 1)).astype(jnp.float32)

    def objective(params: PyTree, key: Array, rows: Array) -> Array:
        losses = loss(params, key, jax.tree.map(lambda leaf: leaf[rows], data))
        losses = losses if weight is None else losses * weight[rows].astype(losses.dtype)
        return losses.mean() + (0.0 if penalty is None else penalty(params))

    def minibatch(given: tuple[PyTree, PyTree, Array], key: Array) -> tuple[PyTree, PyTree, Array]:
        params, optimizer_state, total = given
        row_key, loss_key = jax.random.split(key)
        rows = train_rows[jax.random.randint(row_key, (batch_size,), 0, jnp.maximum(num_train, 1))]
        value, grads = jax.value_and_grad(objective)(params, loss_key, rows)
        updates, optimizer_state = adam.update(grads, optimizer_state, params)
        return optax.apply_updates(params, updates), optimizer_state, total + value.astype(jnp.float32)

    num_steps = -(-num_train // batch_size)

    def epoch(now: _Progress) -> _Progress:
        key, epoch_key = jax.random.split(now.key)
        start = (now.params, now.optimizer_state, jnp.zeros((), jnp.float32))
        learned = jax.lax.fori_loop(
            0, num_steps, lambda i, given: minibatch(given, jax.random.fold_in(epoch_key, i)), start
        )
        value = judge(learned[0])
        # NaN is never better.
        better = (value < now.best) | (num_test == 0)
        clearly = (value < now.to_beat - min_improvement) | (num_test == 0)
        keep = lambda new, old: jnp.where(better, new, old)  # noqa: E731
        return _Progress(
            key,
            params=learned[0],
            optimizer_state=learned[1],
            best_params=jax.tree.map(keep, learned[0], now.best_params),
            best=keep(value, now.best),
            to_beat=jnp.where(clearly, value, now.to_beat),
            held_out=now.held_out.at[now.epochs + 1].set(value),
            train=across.mean(learned[2]) / jnp.maximum(num_steps, 1),
            epochs=now.epochs + 1,
            since=jnp.where(clearly, 0, now.since + 1),
        )

    before = judge(params)
    finite = jnp.where(jnp.isnan(before), jnp.inf, before)
    start = _Progress(
        key,
        params,
        adam.init(params),
        params,
        best=finite,
        to_beat=finite,
        held_out=jnp.full((max_epochs + 1,), before, jnp.float32),
        train=jnp.zeros((), jnp.float32),
        epochs=jnp.zeros((), jnp.int32),
        since=jnp.zeros((), jnp.int32),
    )
    end = jax.lax.while_loop(lambda now: (now.epochs < max_epochs) & (now.since < patience), epoch, start)
    curve = jnp.where(jnp.arange(max_epochs + 1) > end.epochs, end.held_out[end.epochs], end.held_out)
    return Fitted(end.best_params, end.best, curve, end.train, end.epochs)


def _check(data: PyTree, loss: Any, weight: Any, penalty: Any, *counts: int) -> int:
    """Checks the arguments and returns N."""
    check_callable("loss", loss, "a function (params, key, batch [B]) -> losses [B]")
    if penalty is not None:
        check_callable("penalty", penalty, "a function of params, or None")
    for name, count in zip(("batch_size", "max_epochs", "patience", "max_held_out"), counts, strict=True):
        check_count(name, count)
    rows = {leaf.shape[0] if leaf.ndim else None for leaf in jax.tree.leaves(data)}
    if len(rows) != 1 or None in rows or 0 in rows:
        raise ValueError(
            f"data: got leaves with {sorted(map(str, rows))} rows, must have the same number in all leaves, at least 1"
        )
    (num_rows,) = (leaf.shape[0] for leaf in jax.tree.leaves(data)[:1])
    if weight is not None and weight.shape != (num_rows,):
        raise ValueError(f"weight: got shape {weight.shape}, must be ({num_rows},), one weight per row of data")
    return num_rows
