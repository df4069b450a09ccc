"""``check`` passes environments that keep the protocol and names the promise that others break."""

import re
from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import jaxrl
from jaxrl import envs
from jaxrl.envs import ProtocolError
from jaxrl.types import Agent, Box, Discrete, Observation


class Params(NamedTuple):
    limit: int = 12
    goal: int = 6


class State(NamedTuple):
    position: jax.Array
    time: jax.Array


class Corridor:
    """Walks left or right from a random place until ``goal``; registered nowhere and inheriting from nothing.

    Every environment below is this one with one hook changed.
    """

    default_params = Params()

    def action_space(self, params=None):
        return Discrete(2)

    def begin(self, key):
        return State(jax.random.randint(key, (), -1, 3), jnp.int32(0))

    def see(self, state):
        return jnp.stack([state.position, state.time]).astype(jnp.float32)

    def move(self, key, state, action):
        return State(state.position + 2 * action - 1, state.time + 1)

    def pay(self, state, action):
        return jnp.where(state.position > 0, 1.0, 0.0)

    def reset(self, key, params=None):
        state = self.begin(key)
        return self.see(state), state

    def step(self, key, state, action, params=None):
        params = self.default_params if params is None else params
        key, reset_key = jax.random.split(key)
        state = self.move(key, state, action)
        reward = self.pay(state, action)
        terminated, truncated = state.position >= params.goal, state.time >= params.limit
        done = terminated | truncated
        final, fresh = self.see(state), self.begin(reset_key)
        returned = jax.tree.map(lambda x, y: jnp.where(done, x, y), (self.see(fresh), fresh), (final, state))
        info = {"final_observation": final, "discount": 1.0 - terminated}
        return self.end(*returned, reward, terminated, truncated, info)

    def end(self, observation, state, reward, terminated, truncated, info):
        return observation, state, reward, terminated, truncated, info


def test_an_environment_of_ones_own_passes():
    env = Corridor()
    assert isinstance(env, envs.Environment)
    assert envs.spec(env).observation == jax.ShapeDtypeStruct((2,), jnp.float32)
    report = envs.check(env)
    assert report.steps == 2 * 64 * 32
    assert report.terminated > 20
    assert report.truncated > 100
    assert report.episodes <= report.terminated + report.truncated
    assert report.weak_types == ()


def test_params_and_sizes_and_key_are_used():
    report = envs.check(Corridor(), Params(limit=4, goal=100), num_steps=10, num_envs=3, key=jax.random.key(5))
    assert report == envs.Report(steps=60, episodes=15, terminated=0, truncated=15, weak_types=())
    assert envs.check(Corridor()) != envs.check(Corridor(), key=jax.random.key(1))


BROKEN = {}


def breaks(message):
    """Registers an environment and what ``check`` has to say of it, beginning with the promise."""

    def register(kind):
        BROKEN[kind.__name__] = (kind, message)
        return kind

    return register


def ending(message):
    """An environment that does everything right but for what ``change`` does to the six values."""

    def register(change):
        kind = type(change.__name__, (Corridor,), {"end": lambda self, *values: change(*values)})
        return breaks(message)(kind)

    return register


@breaks("members: .* has no action_space")
class NoActionSpace:
    default_params = None
    reset = step = None


@breaks(r"action_space: .* takes \(\), must be called as action_space\(params\)")
class ActionSpaceWithoutParams(Corridor):
    def action_space(self):
        return Discrete(2)


@breaks("step: .* must be called as step")
class StepWithoutParams(Corridor):
    def step(self, key, state, action):
        return super().step(key, state, action)


@breaks(r"environment: got a Gymnasium environment \(Blackjack-v1\)")
def AGymnasiumEnvironment():
    return gymnasium.make("Blackjack-v1")


@breaks(r"spec: action space: got Discrete\(0\)")
class HasNoActions(Corridor):
    def action_space(self, params=None):
        return Discrete(0)


@breaks(r"spec: observation: got float32\[0\]")
class ObservesNothingAtAll(Corridor):
    def see(self, state):
        return super().see(state)[:0]


@breaks(r"observation: got the Python float 1.0")
class ObservesAFloatOfPython(Corridor):
    def see(self, state):
        return 1.0


@breaks(r"reset: got (ArrayImpl|.*Tracer)")
class ResetsToAnObservation(Corridor):
    def reset(self, key, params=None):
        return super().reset(key, params)[0]


@breaks("jit: reset cannot be traced: TracerBoolConversionError")
class BranchesInPython(Corridor):
    def begin(self, key):
        state = super().begin(key)
        return state if state.position > 0 else state._replace(position=jnp.int32(0))


@breaks("jit: step cannot be traced: TypeError")
class StepFails(Corridor):
    def move(self, key, state, action):
        return state.position["nowhere"]


@breaks("spec: observation: got a dict")
class ObservesADict(Corridor):
    def see(self, state):
        return {"position": super().see(state)}


@breaks("spec: observation: got dtype complex64")
class ObservesComplexNumbers(Corridor):
    def see(self, state):
        return super().see(state).astype(jnp.complex64)


@breaks("spec: action space: got MultiDiscrete")
class ActsTwice(Corridor):
    def action_space(self, params=None):
        return gymnasium.spaces.MultiDiscrete([2, 2])


@ending(r"step: got 5 values, must be six .*\(the old protocol has one done\)")
def ReturnsFiveValues(observation, state, reward, terminated, truncated, info):
    return observation, state, reward, terminated | truncated, info


@ending("info: got tuple, must be a dict")
def HasNoInfo(observation, state, reward, terminated, truncated, info):
    return observation, state, reward, terminated, truncated, ()


@ending("final_observation: missing in info")
def HasNoFinalObservation(observation, state, reward, terminated, truncated, info):
    return observation, state, reward, terminated, truncated, {"discount": info["discount"]}


@ending(r"observation: got float32\[2\] at reset and int32\[2\] in step")
def ChangesTheDtype(observation, state, reward, terminated, truncated, info):
    return observation.astype(jnp.int32), state, reward, terminated, truncated, info


@ending(r"observation: got float32\[2\] at reset and float32\[2, 1\] in step")
def ChangesTheShape(observation, state, reward, terminated, truncated, info):
    return observation[:, None], state, reward, terminated, truncated, info


@ending("observation: got structure .* at reset and .*Observation.* in step")
def ChangesTheStructure(observation, state, reward, terminated, truncated, info):
    return Observation(observation), state, reward, terminated, truncated, info


@ending(r"final_observation: got float32\[2\] at reset and float32\[3\] in step")
def FinalOfAnotherShape(observation, state, reward, terminated, truncated, info):
    return observation, state, reward, terminated, truncated, {**info, "final_observation": jnp.zeros(3)}


@ending(r"state: \.time: got int32\[\] at reset and float32\[\] in step")
def ChangesTheState(observation, state, reward, terminated, truncated, info):
    return observation, state._replace(time=state.time * jnp.float32(1)), reward, terminated, truncated, info


@ending("state: got structure")
def ForgetsTheState(observation, state, reward, terminated, truncated, info):
    return observation, state.position, reward, terminated, truncated, info


@ending(r"reward: got float32\[1\]")
def RewardsInAVector(observation, state, reward, terminated, truncated, info):
    return observation, state, reward[None], terminated, truncated, info


@ending("reward: got the Python int 1, must be an array")
def RewardsByAnIntOfPython(observation, state, reward, terminated, truncated, info):
    return observation, state, 1, terminated, truncated, info


@ending("terminated: got the Python bool False, must be an array")
def NeverTerminatesInPython(observation, state, reward, terminated, truncated, info):
    return observation, state, reward, False, truncated, info


@ending(r"reward: got complex64\[\]")
def RewardsComplexNumbers(observation, state, reward, terminated, truncated, info):
    return observation, state, reward * 1j, terminated, truncated, info


@ending("reward: got a NoneType")
def RewardsNothing(observation, state, reward, terminated, truncated, info):
    return observation, state, None, terminated, truncated, info


@ending(r"info: info\['outcome'\]: got str")
def HasWordsInInfo(observation, state, reward, terminated, truncated, info):
    return observation, state, reward, terminated, truncated, {**info, "outcome": "won"}


@ending(r'discount: info\["discount"\]: got float32\[1\]')
def DiscountsInAVector(observation, state, reward, terminated, truncated, info):
    return observation, state, reward, terminated, truncated, {**info, "discount": info["discount"][None]}


@ending(r"reward: got bool\[\]")
def RewardsByABool(observation, state, reward, terminated, truncated, info):
    return observation, state, reward > 0, terminated, truncated, info


@ending(r"terminated: got float32\[\]")
def TerminatesByAFloat(observation, state, reward, terminated, truncated, info):
    return observation, state, reward, terminated.astype(jnp.float32), truncated, info


@ending(r"truncated: got bool\[1\]")
def TruncatesInAVector(observation, state, reward, terminated, truncated, info):
    return observation, state, reward, terminated, truncated[None], info


@breaks("determinism: tracing step twice")
class CountsInTheObject(Corridor):
    calls = 0

    def pay(self, state, action):
        self.calls += 1
        return jnp.float32(self.calls)


@breaks("determinism: tracing step twice")
class DrawsFromNumpy(Corridor):
    def see(self, state):
        return super().see(state) + jnp.asarray(np.random.normal(size=2), jnp.float32)


@breaks("determinism: the same key gave two different runs")
class DrawsOnTheHost(Corridor):
    def pay(self, state, action):
        draw = lambda _: np.float32(np.random.normal())  # noqa: E731
        struct = jax.ShapeDtypeStruct((), jnp.float32)
        return jax.pure_callback(draw, struct, state.time, vmap_method="sequential")


@breaks("vmap: .*fails under jit, vmap and lax.scan")
class CannotBeBatched(Corridor):
    def pay(self, state, action):
        return jax.pure_callback(lambda _: np.float32(1), jax.ShapeDtypeStruct((), jnp.float32), state.time)


@ending("finite: reward has [0-9]+ of 4096 NaN")
def RewardsNaN(observation, state, reward, terminated, truncated, info):
    return observation, state, jnp.where(truncated, jnp.nan, reward), terminated, truncated, info


@breaks("finite: observation has .* NaN or infinite numbers")
class DividesByZero(Corridor):
    def see(self, state):
        return super().see(state) / (state.time != 5)


@ending("finite: final_observation has")
def FinalIsNaN(observation, state, reward, terminated, truncated, info):
    final = jnp.where(terminated, jnp.nan, info["final_observation"])
    return observation, state, reward, terminated, truncated, {**info, "final_observation": final}


@ending(r'truncated: info\["truncated"\] differs from the returned value at [0-9]+ of 4096 steps')
def InfoIsOutOfDate(observation, state, reward, terminated, truncated, info):
    return observation, state, reward, terminated, truncated, {**info, "truncated": jnp.bool_(False)}


@ending("discount: .*0 where terminated and not where truncated")
def DiscountIsZeroAtATimeLimit(observation, state, reward, terminated, truncated, info):
    return observation, state, reward, terminated, truncated, {**info, "discount": 1.0 - (terminated | truncated)}


@ending(r"discount: .*has to lie in \[-1, 1\].*at [0-9]+ of 4096 steps")
def DiscountIsNotANumber(observation, state, reward, terminated, truncated, info):
    return observation, state, reward, terminated, truncated, {**info, "discount": jnp.where(terminated, 0.0, jnp.nan)}


@ending("discount: .*0 where terminated and not where truncated")
def DiscountIsNeverZero(observation, state, reward, terminated, truncated, info):
    return observation, state, reward, terminated, truncated, {**info, "discount": jnp.float32(1.0)}


@ending("final_observation: differs from the returned observation at [0-9]+ of 4096 steps inside")
def FinalOnlyAtTheEnd(observation, state, reward, terminated, truncated, info):
    final = jnp.where(terminated | truncated, info["final_observation"], 0.0)
    return observation, state, reward, terminated, truncated, {**info, "final_observation": final}


@ending("final_observation: is the observation of the next reset at all of [0-9]+ steps")
def FinalIsTheResetOne(observation, state, reward, terminated, truncated, info):
    return observation, state, reward, terminated, truncated, {**info, "final_observation": observation}


@breaks("final_observation: is the observation of the next reset at all of [0-9]+ steps where .* was truncated")
class FinalIsTheOnlyResetOne(Corridor):
    """As above, with one reset only, so that to meet it is no wonder in itself."""

    def begin(self, key):
        return State(jnp.int32(0), jnp.int32(0))

    def end(self, observation, state, reward, terminated, truncated, info):
        return FinalIsTheResetOne().end(observation, state, reward, terminated, truncated, info)


@ending("auto-reset: where an episode was terminated, the step returned an observation unlike all")
def ReturnsTheFinalObservation(observation, state, reward, terminated, truncated, info):
    return info["final_observation"], state, reward, terminated, truncated, info


class Lasting(Corridor):
    """Keeps the old state, and with it the old observation, where ``keep`` says so."""

    def step(self, key, state, action, params=None):
        moved = self.move(key, state, action)
        observation, after, reward, terminated, truncated, info = super().step(key, state, action, params)
        keep = self.keep(terminated, truncated)
        after = jax.tree.map(lambda x, y: jnp.where(keep, x, y), moved, after)
        observation = jnp.where(keep & self.shows, info["final_observation"], observation)
        return observation, after, reward, terminated, truncated, info


@breaks("auto-reset: where an episode was terminated, the step returned")
class NeverResets(Lasting):
    shows = True

    def keep(self, terminated, truncated):
        return terminated | truncated


@breaks("auto-reset: where an episode was truncated, the step returned")
class ResetsOnlyWhereTerminated(Lasting):
    shows = True

    def keep(self, terminated, truncated):
        return truncated & ~terminated


@breaks("auto-reset: one step after an episode was truncated")
class ResetsOnlyWhatIsSeen(Lasting):
    shows = False

    def keep(self, terminated, truncated):
        return truncated & ~terminated


class Masked(Corridor):
    """Has a third action, which is illegal at times and then pays NaN, so that a check that takes it fails."""

    def action_space(self, params=None):
        return spaces.Discrete(3)

    def see(self, state):
        return Observation(super().see(state), action_mask=self.legal(state))

    def legal(self, state):
        return jnp.array([True, True, False]) | (state.position % 2 == 0)

    def move(self, key, state, action):
        legal = self.legal(state)[action]
        return super().move(key, state, jnp.where(legal, jnp.minimum(action, 1), 10**6))

    def pay(self, state, action):
        return jnp.where(jnp.abs(state.position) > 10**5, jnp.nan, 1.0)


def test_a_mask_is_obeyed():
    assert envs.check(Masked()).episodes > 100


@breaks(r"spec: Observation.action_mask: got bool\[1\], must be bool\[3\]")
class MaskIsShort(Masked):
    def legal(self, state):
        return super().legal(state)[:1]


@breaks("mask: no action is legal in [0-9]+ of 4096 observations of step")
class IsStuck(Masked):
    def legal(self, state):
        return super().legal(state) & (state.time != 3)


@breaks("mask: no action is legal in 32 of 32 observations of reset")
class IsStuckAtOnce(Masked):
    def legal(self, state):
        return super().legal(state) & (state.time != 0)


@breaks("mask: no action is legal in [0-9]+ of 4096 observations of final_observation")
class IsStuckWhereTruncated(Masked):
    def legal(self, state):
        return super().legal(state) & (state.time != 12)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_named(name):
    kind, message = BROKEN[name]
    with pytest.raises(ProtocolError) as error:
        envs.check(kind())
    assert re.match(message, str(error.value), re.DOTALL), str(error.value)


class NoMovesLeft(Masked):
    """No action is legal once the task is over, which is no fault."""

    def legal(self, state):
        return super().legal(state) & (state.position < 6)


class InBounds(Corridor):
    """Boxes with one side missing; what is out of bounds pays NaN."""

    low, high = np.float32([-1.0, 2.0, -np.inf]), np.float32([3.0, 2.5, 0.0])

    def action_space(self, params=None):
        return spaces.Box(self.low, self.high, (3,))

    def move(self, key, state, action):
        inside = jnp.all((action >= self.low) & (action <= self.high))
        return super().move(key, state, jnp.where(inside & (action.shape == (3,)), action[0] > 0, 10**6))

    def pay(self, state, action):
        return jnp.where(jnp.abs(state.position) > 10**5, jnp.nan, 1.0)


class TwoPlayers(Corridor):
    def end(self, observation, state, reward, terminated, truncated, info):
        return observation, state, reward, terminated, truncated, {**info, "discount": -info["discount"]}


class CountsItsReward(Corridor):
    def pay(self, state, action):
        return jnp.int32(1)


class RareStarts(Corridor):
    """One start in 500 is far away: the resets that were seen do not show it, what follows an end does."""

    def begin(self, key):
        far = jax.random.bernoulli(key, 1 / 500)
        return State(jnp.where(far, -1000, 0), jnp.int32(0))


class ManyImages(Corridor):
    """One lit pixel of 400, most of which no reset has shown."""

    def see(self, state):
        return jax.nn.one_hot((state.position * 37 + state.time * 11) % 400, 400)

    def begin(self, key):
        return State(jax.random.randint(key, (), -400, 0), jnp.int32(0))


class ComesHome(Corridor):
    """Starts at 0 and ends there, so that the final observation is that of a reset rightly."""

    def begin(self, key):
        return State(jnp.int32(0), jnp.int32(0))

    def see(self, state):
        return (state.position % 6).astype(jnp.float32)[None]


class SeesNothing(Corridor):
    def see(self, state):
        return jnp.zeros(1)


class KeepsAKey(Corridor):
    """The state holds a PRNG key and the observation a memory and a simulator state, which are not compared."""

    def begin(self, key):
        return super().begin(key), key

    def see(self, state):
        return Observation(super().see(state[0]), memory=jax.random.normal(state[1], (2,)), env_state=state[1])

    def move(self, key, state, action):
        # Who is shown a memory answers with one, a ``Remembered``.
        return super().move(key, state[0], action.value), jax.random.fold_in(state[1], 1)

    def step(self, key, state, action, params=None):
        key, reset_key = jax.random.split(key)
        state = self.move(key, state, action)
        truncated = state[0].time >= 12
        after = envs.wrappers.select(truncated, self.begin(reset_key), state)
        info = {"final_observation": self.see(state)}
        return self.see(after), after, jnp.float32(1), jnp.bool_(False), truncated, info


@pytest.mark.parametrize(
    "kind",
    [NoMovesLeft, InBounds, TwoPlayers, CountsItsReward, RareStarts, ManyImages, ComesHome, SeesNothing, KeepsAKey],
)
def test_what_only_looks_like_a_fault_passes(kind):
    assert envs.check(kind()).episodes > 50


def test_weak_types_are_reported_and_no_error():
    class Weak(Corridor):
        def begin(self, key):
            return super().begin(key)._replace(time=jnp.asarray(0))

        def end(self, observation, state, *rest):
            return observation, state._replace(time=jax.lax.convert_element_type(state.time, jnp.int32)), *rest

    assert envs.check(Weak()).weak_types == ("state.time",)


def test_a_strict_session_does_not_reach_the_environment():
    class Promotes(Corridor):
        def see(self, state):
            return (super().see(state) + jnp.zeros((1, 2)))[0]

    with jax.numpy_rank_promotion("raise"):
        assert envs.spec(Promotes()).action == Discrete(2)
        envs.check(Promotes())


def test_boxes_of_jaxrl_are_actions_too():
    class Continuous(Corridor):
        def action_space(self, params=None):
            return Box((1,), -1.0, 1.0)

        def move(self, key, state, action):
            return super().move(key, state, (action[0] > 0).astype(jnp.int32))

    assert envs.check(Continuous()).terminated > 10


@pytest.mark.parametrize("error", [0.0, 1e-7, 1e-3])
def test_rounding_is_no_difference(error):
    class Rounds(Corridor):
        def begin(self, key):
            return State(jnp.int32(0), jnp.int32(0))

        def end(self, observation, state, reward, terminated, truncated, info):
            return observation * (1 + error), state, reward, terminated, truncated, info

    if error < 1e-6:
        envs.check(Rounds())
    else:
        with pytest.raises(ProtocolError, match="final_observation: differs"):
            envs.check(Rounds())


NAMED_BY_A_ROLLOUT = (
    "ReturnsFiveValues",
    "HasNoInfo",
    "HasNoFinalObservation",
    "HasWordsInInfo",
    "ChangesTheDtype",
    "ChangesTheShape",
    "ChangesTheStructure",
    "ChangesTheState",
    "FinalOfAnotherShape",
    "RewardsInAVector",
    "RewardsComplexNumbers",
    "RewardsByABool",
    "DiscountsInAVector",
    "TerminatesByAFloat",
    "TruncatesInAVector",
    "StepWithoutParams",
    "ResetsToAnObservation",
    "AGymnasiumEnvironment",
)


@pytest.mark.parametrize("name", NAMED_BY_A_ROLLOUT)
def test_training_names_what_shapes_and_types_show(name):
    kind, message = BROKEN[name]
    env = kind()
    agent = Agent(
        init=lambda key, num_envs=1: (),
        act=lambda key, state, observation, *, explore=True: (jnp.zeros(jnp.shape(observation)[0], jnp.int32), ()),
        update=lambda key, state, trajectory: ((), {}),
    )

    def train(key):
        return jaxrl.train(key, agent, env, Params(), num_steps=12, num_envs=3, rollout_length=2)

    with pytest.raises(ProtocolError) as error:
        jax.eval_shape(train, jax.random.key(0))
    assert re.match(message, str(error.value), re.DOTALL), str(error.value)
