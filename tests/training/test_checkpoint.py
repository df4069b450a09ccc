import json
import os
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.training import CheckpointError, Checkpoints, checkpoint, fit


@pytest.fixture(scope="module")
def state():
    """A leaf of each kind; the noise fills its own chunk on disk."""
    key = jax.random.key(0)
    return {
        "agent": {
            "params": {"kernel": jax.random.normal(key, (2, 40, 30)), "bias": jnp.arange(2.0)},
            "replay": jnp.zeros((2, 0, 4)),
            "keys": jax.random.split(key, 2),
            "other_keys": jax.random.split(jax.random.key(0, impl="rbg"), (2, 2)),
            "no_keys": jax.random.split(key, 3)[:0],
        },
        "flags": jnp.array([True, False]),
        "bits": jnp.arange(3, dtype=jnp.uint32),
        "half": jnp.arange(5, dtype=jnp.bfloat16),
        "special": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-42]),
        "absent": (None, (), {}),
        "count": jnp.int32(7),
    }


@pytest.fixture
def saved(tmp_path, state):
    checkpoints = Checkpoints(tmp_path / "saved", identity={"recipe": "ppo", "environment": "CartPole-v1"})
    checkpoints.save(3, state)
    checkpoints.save(7, state)
    return checkpoints


def abstract(state):
    return jax.eval_shape(lambda: state)


def test_everything_comes_back_bit_for_bit(saved, state, toys):
    toys.assert_same(saved.restore(state), state)
    restored = saved.restore(abstract(state))
    toys.assert_same(restored, state)
    assert jax.random.key_impl(restored["agent"]["other_keys"]) == "rbg"
    assert all(isinstance(leaf, jax.Array) and not leaf.committed for leaf in jax.tree.leaves(restored))


def test_numpy_and_numbers(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, {"wide": np.arange(3, dtype=np.float64) / 3, "number": 3, "weak": jnp.asarray(1.0)})
    restored = checkpoints.restore({"wide": np.zeros(3), "number": 0, "weak": jnp.zeros(())})
    assert restored["wide"].dtype == np.float64 and np.all(restored["wide"] == np.arange(3) / 3)
    assert restored["number"] == 3 and not restored["weak"].weak_type


def test_what_is_restored_may_be_donated(saved, state, toys):
    restored = saved.restore(abstract(state))
    moved = jax.jit(lambda x: jax.tree.map(lambda y: y, x), donate_argnums=0)(restored)
    toys.assert_same(moved, state)


def test_a_part_is_read_by_its_name(saved, state, toys):
    params = saved.restore(abstract(state["agent"]["params"]), under="agent.params")
    toys.assert_same(params, state["agent"]["params"])
    toys.assert_same(saved.restore(state["flags"], under="flags"), state["flags"])
    with pytest.raises(CheckpointError, match="nothing under 'agent.par'; its parts are agent, bits, count"):
        saved.restore(state, under="agent.par")


def test_the_last_ones_are_kept_and_updates_are_chosen(tmp_path, toys):
    checkpoints = Checkpoints(tmp_path / "not" / "yet", keep=2)
    assert checkpoints.updates() == [] and not (tmp_path / "not").exists()
    for step in (1, 5, 9, 10):
        checkpoints.save(step, {"x": jnp.full(2, step)})
    assert checkpoints.updates() == Checkpoints(tmp_path / "not" / "yet").updates() == [9, 10]
    assert checkpoints.restore({"x": jnp.zeros(2, jnp.int32)})["x"][0] == 10
    assert checkpoints.restore({"x": jnp.zeros(2, jnp.int32)}, 9)["x"][0] == 9
    Checkpoints(tmp_path / "not" / "yet", keep=2).save(11, {"x": jnp.full(2, 11)})
    assert checkpoints.updates() == [10, 11]


def test_a_run_goes_forwards_unless_rewound(saved, state):
    for step in (7, 5, -1):
        with pytest.raises(ValueError, match=rf"update: got {step}, must be above those in .*\[3, 7\]"):
            saved.save(step, state)
    saved.rewind(3)
    assert saved.updates() == [3]
    saved.save(5, state)
    assert saved.updates() == [3, 5]


def test_a_save_is_quick(saved, state):
    begin = time.perf_counter()
    saved.save(8, state)
    assert time.perf_counter() - begin < 1.0


@pytest.mark.parametrize("cut", [2, 5])
def test_a_population_resumes_from_disk_bit_for_bit(learners, tmp_path, toys, cut):
    program = learners.program
    half, before = fit(program, num_updates=cut, updates_per_chunk=cut)
    Checkpoints(tmp_path).save(cut, half)
    restored = Checkpoints(tmp_path).restore(program.abstract_state())
    toys.assert_same(restored, half)
    state, after = fit(program, num_updates=6, updates_per_chunk=3, state=restored)
    toys.assert_same(state, learners.state)
    both = {name: np.concatenate([before[name], after[name]], axis=1) for name in before}
    toys.assert_same(both, learners.metrics)


def test_a_population_with_keys_and_nothing_in_its_state_resumes(walkers, tmp_path, toys):
    checkpoints = Checkpoints(tmp_path)
    fit(
        walkers.program,
        num_updates=6,
        updates_per_chunk=2,
        on_chunk=lambda chunk: checkpoints.save(chunk.updates, chunk.state),
    )
    assert checkpoints.updates() == [2, 4, 6]
    for step in checkpoints.updates():
        restored = checkpoints.restore(walkers.program.abstract_state(), step)
        toys.assert_same(fit(walkers.program, num_updates=9, updates_per_chunk=4, state=restored)[0], walkers.state)


class TestFaults:
    def test_no_checkpoint(self, tmp_path, saved, state):
        with pytest.raises(CheckpointError, match=f"no checkpoint in {tmp_path}/nowhere$"):
            Checkpoints(tmp_path / "nowhere").restore(state)
        with pytest.raises(CheckpointError, match=r"no checkpoint 5 in .*, which has \[3, 7\]"):
            saved.restore(state, 5)

    def test_an_unfinished_save_is_no_checkpoint(self, saved, state, toys):
        leftover = saved.directory / "9.orbax-checkpoint-tmp"
        shutil.copytree(saved.directory / "7", leftover)
        again = Checkpoints(saved.directory)
        assert again.updates() == [3, 7]
        toys.assert_same(again.restore(state), state)
        assert leftover.exists(), "a reader must leave alone what another process may be writing"
        again.save(9, state)
        assert again.updates() == [3, 7, 9] and not leftover.exists()
        for step in ("3", "7", "9"):
            shutil.rmtree(saved.directory / step)
        leftover.mkdir()
        with pytest.raises(CheckpointError, match=r"no checkpoint in .* \(1 entries there are no finished"):
            Checkpoints(saved.directory).restore(state)

    def test_a_save_that_breaks_off_is_never_seen(self, saved, state, monkeypatch, toys):
        from orbax.checkpoint import handlers

        def break_off(*args, **kwargs):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(handlers.JsonCheckpointHandler, "async_save", break_off)
            with pytest.raises(KeyboardInterrupt):
                saved.save(9, state)
        assert saved.updates() == [3, 7]
        toys.assert_same(saved.restore(state), state)
        saved.save(9, state)
        toys.assert_same(saved.restore(state, 9), state)

    def test_a_killed_save_is_never_seen(self, saved):
        """A process that dies with a save under way, in the middle of writing arrays."""
        program = f"""
import os, threading, jax, numpy as np
from jaxrl.training import Checkpoints
state = {{str(i): np.random.default_rng(i).random((500, 500)) for i in range(20)}}
checkpoints = Checkpoints({str(saved.directory)!r}, keep=2000)
checkpoints.save(8, state)
threading.Timer(0.1, lambda: os._exit(9)).start()
for step in range(9, 1000):
    checkpoints.save(step, state)
"""
        done = subprocess.run([sys.executable, "-c", program], check=False, timeout=120)
        assert done.returncode == 9
        assert saved.updates()[:3] == [3, 7, 8]
        template = {str(i): np.zeros((500, 500)) for i in range(20)}
        for step in saved.updates()[2:]:
            restored = Checkpoints(saved.directory).restore(template, step)
            assert np.array_equal(restored["3"], np.random.default_rng(3).random((500, 500)))

    def test_damage_to_any_file_is_found(self, saved, state, toys, capfd):
        """Each file deleted, cut and altered in turn: the state comes back right, or an error says torn."""
        good, found = saved.directory / "3", set()
        bad = saved.directory / "7"
        files = [path.relative_to(good) for path in good.rglob("*") if path.is_file()]
        for file in files:
            for damage in (os.remove, cut_in_half, alter):
                shutil.rmtree(bad)
                shutil.copytree(good, bad)
                damage(bad / file)
                try:
                    toys.assert_same(saved.restore(state), state)
                except CheckpointError as error:
                    assert "checkpoint 7 in" in str(error) and "is torn" in str(error) and "[3]" in str(error)
                    found.add(damage)
        assert found == {os.remove, cut_in_half, alter}
        toys.assert_same(saved.restore(state, 3), state)
        assert "Traceback" not in capfd.readouterr().err

    def test_data_that_is_still_readable_is_not_trusted(self, saved, state):
        largest = max((saved.directory / "7" / "state").rglob("*"), key=lambda path: path.stat().st_size)
        alter(largest)
        with pytest.raises(CheckpointError, match="'agent.params.kernel' (is not what was saved|can't be read)"):
            saved.restore(state)

    def test_only_readable_checkpoints_are_offered_in_one_sentence(self, saved, state):
        saved.save(9, state)
        for update in ("3", "9"):
            shutil.rmtree(saved.directory / update / "state")
        assert saved.readable() == [7]
        with pytest.raises(CheckpointError) as caught:
            saved.restore(state)
        assert str(caught.value).endswith("can't be read; choose one of the updates [7]")
        assert len(str(caught.value)) < len(str(saved.directory)) + 120
        shutil.rmtree(saved.directory / "7" / "record")
        with pytest.raises(CheckpointError, match="no other checkpoint there can be read"):
            saved.restore(state)

    @pytest.mark.parametrize("name", ["win\\path", "a[b]", "gs:"])
    def test_a_name_that_storage_changes_is_refused(self, tmp_path, name, capfd):
        with pytest.raises(CheckpointError, match="can't hold checkpoints"):
            Checkpoints(tmp_path / name / "checkpoints").try_out()
        assert not list(tmp_path.rglob("*trial*")) and "Traceback" not in capfd.readouterr().err
        Checkpoints(tmp_path / "plain 漢字#?%" / "checkpoints").try_out()

    def test_no_room_leaves_the_earlier_checkpoints_and_nothing_else(self, tmp_path):
        """A process that may write no file above 100 kB, as one whose disk or quota is full."""
        program = f"""
import resource, numpy as np
from jaxrl.training import CheckpointError, Checkpoints
checkpoints = Checkpoints({str(tmp_path)!r})
checkpoints.save(0, {{"x": np.zeros(3)}})
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
try:
    checkpoints.save(1, {{"x": np.random.rand(1_000_000)}})
except CheckpointError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
checkpoints.save(2, {{"x": np.ones(3)}})
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        assert done.stdout == f"checkpoint 1 can't be written to {tmp_path} (File too large)\n"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "2"]
        assert Checkpoints(tmp_path).readable() == [0, 2]

    def test_lost_directories_are_named(self, saved, state):
        shutil.rmtree(saved.directory / "7" / "state")
        with pytest.raises(CheckpointError, match="torn.*can't be read"):
            saved.restore(state)
        shutil.rmtree(saved.directory / "7" / "record")
        with pytest.raises(CheckpointError, match="torn.*its record can't be read"):
            saved.restore(state)

    def test_another_identity(self, saved, state, toys):
        other = Checkpoints(saved.directory, identity={"recipe": "a2c", "environment": "CartPole-v1"})
        with pytest.raises(CheckpointError, match="is of another run: recipe is 'ppo', expected 'a2c'"):
            other.restore(state)
        with pytest.raises(CheckpointError, match="another run: torso is none, expected 'mlp'"):
            Checkpoints(saved.directory, identity={"torso": "mlp"}).restore(state)
        toys.assert_same(Checkpoints(saved.directory).restore(state), state)  # nothing asked, nothing checked

    def test_identities_are_compared_as_json(self, tmp_path):
        checkpoints = Checkpoints(tmp_path, identity={"hidden": (64, 64)})
        checkpoints.save(0, {"x": jnp.ones(1)})
        checkpoints.restore({"x": jnp.ones(1)})
        with pytest.raises(TypeError):
            Checkpoints(tmp_path, identity={"torso": object()})

    def test_other_shapes_and_dtypes(self, saved, state):
        other = jax.tree.map(lambda x: x, state)
        other["agent"]["params"]["kernel"] = jnp.zeros((4, 40, 30))
        expected = r"'agent.params.kernel' was saved as float32\[2, 40, 30\], expected float32\[4, 40, 30\]"
        with pytest.raises(CheckpointError, match=expected):
            saved.restore(other)
        with pytest.raises(CheckpointError, match=r"'bits' was saved as uint32\[3\], expected int32\[3\]"):
            saved.restore({**state, "bits": jnp.arange(3)})
        with pytest.raises(CheckpointError, match=r"'agent' was saved as key<rbg>\[2\], expected key<fry>\[2\]"):
            path = saved.directory.with_name("keys")
            Checkpoints(path).save(0, {"agent": jax.random.split(jax.random.key(0, impl="rbg"), 2)})
            Checkpoints(path).restore({"agent": state["agent"]["keys"]})

    def test_another_structure(self, saved, state):
        with pytest.raises(CheckpointError, match=r"'more.0' is expected, but was not saved \(and 1 more\)"):
            saved.restore({**state, "more": [jnp.ones(1), jnp.ones(1)]})
        fewer = {name: leaf for name, leaf in state.items() if name != "half"}
        with pytest.raises(CheckpointError, match="another structure: 'half' was saved, but is not expected"):
            saved.restore(fewer)

    def test_another_format_version(self, saved, state):
        record = saved.directory / "7" / "record" / "metadata"
        text = json.loads(record.read_text())
        record.write_text(json.dumps({**text, "format": checkpoint.FORMAT_VERSION + 1}))
        with pytest.raises(CheckpointError, match="is of format version 2, this jaxrl reads version 1"):
            saved.restore(state)

    def test_what_is_no_array_is_refused_by_name(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"got 'agent\.optimizer'.*must be an array"):
            Checkpoints(tmp_path).save(0, {"agent": {"optimizer": object()}})
        with pytest.raises(ValueError, match="keep: got 0"):
            Checkpoints(tmp_path, keep=0)


def cut_in_half(path):
    os.truncate(path, path.stat().st_size // 2)


def alter(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


def test_orbax_is_imported_only_where_it_is_used():
    program = "import sys, jaxrl.training; assert not [name for name in sys.modules if 'orbax' in name]"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
