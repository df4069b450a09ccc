"""The code of docs/feedback.md makes what the page says."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp

import jaxrl
from jaxrl.feedback.teachers import TEACHERS
from jaxrl.types import Transition

PAGE = (Path(jaxrl.__file__).parent.parent / "docs" / "feedback.md").read_text()


def test_the_blocks_make_agents_that_can_be_updated():
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    observation = names["spec"].zeros(3, 2)
    number, flag = jnp.zeros((3, 2)), jnp.zeros((3, 2), bool)
    for name in ("coached", "tamed"):
        agent = names[name]

        def update(key, agent=agent):
            state = agent.init(key, 2)
            action, extras = agent.act(key, state, observation[0])
            steps = [jax.tree.map(lambda x: jnp.stack([x] * 3), x) for x in (action, extras)]
            trajectory = Transition(observation, steps[0], number, number, flag, flag, observation, steps[1])
            return agent.update(key, state, trajectory)[1]

        assert "reward_model_signals" in jax.eval_shape(update, jax.random.key(0))
    falls_right = Transition(jnp.array([0.0, 0.0, 0.1, 0.0]), 1, 0, 0, 0, 0, 0)
    assert names["judge"](falls_right) == 1.0 == -names["judge"](falls_right._replace(action=0))


def test_the_page_lists_every_teacher():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(TEACHERS)
