"""Help, lists, and what is said of a wrong name or value: one line, the nearest right one, exit code 2."""

import re
import subprocess
import sys

import pytest
from rich.table import Table

from jaxrl import envs, replay
from jaxrl.agents.parts import replaying
from jaxrl.agents.presets import LOOP, PRESETS, preset
from jaxrl.cli import flags, run_flags
from jaxrl.cli import main as cli_main
from jaxrl.cli.list import merged, suites
from jaxrl.cli.rejection import first_sentence
from jaxrl.envs.registry import ADAPTERS, REFUSED
from jaxrl.runs.building import build
from jaxrl.runs.config import Chosen, RunConfig
from jaxrl.runs.console import make_console, print_titled
from jaxrl.runs.recipes import RECIPES, hyperparameters, summary

PPO = ("train", "ppo", "CartPole-v1")


def test_help_names_all_commands_and_imports_no_jax():
    code = "import sys; from jaxrl.cli.main import main; assert main(['--help']) == 0; assert 'jax' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(f"  {command} " in done.stdout for command in cli_main.COMMANDS)


def test_the_module_runs():
    done = subprocess.run([sys.executable, "-m", "jaxrl", "tarin"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("jaxrl: unknown command 'tarin', did you mean 'train'?")


@pytest.mark.parametrize("command", cli_main.COMMANDS)
def test_every_command_has_help(jaxrl, command):
    outcome = jaxrl(command, "--help")
    assert outcome.code == 0
    assert f"usage: jaxrl {command}" in outcome.out


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_of_a_recipe_needs_no_environment_and_shows_every_hyperparameter(jaxrl, recipe, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")  # one column, whose frame goes through sentences
    outcome = jaxrl("train", recipe, "--help")
    assert outcome.code == 0
    outcome.out = " ".join(outcome.out.replace("│", "").split())
    for name, parameter in hyperparameters(recipe).items():
        assert f"--{name.replace('_', '-')}" in outcome.out
        assert parameter.help.split(";")[0] in outcome.out
    for absent in ("--optimizer", "--loss", "--heads", "--spec", "--num-updates"):
        assert absent not in outcome.out


@pytest.mark.parametrize(("recipe", "environment"), [("ppo", "Pendulum-v1"), ("a2c", "Breakout-MinAtar")])
def test_defaults_are_those_of_the_environment(recipe, environment):
    config, _ = flags.parse([recipe, environment])
    values = preset(recipe, environment)
    assert {name: getattr(config, name) for name in LOOP} == {name: values.pop(name) for name in LOOP}
    defaults = {name: parameter.default for name, parameter in hyperparameters(recipe).items()}
    torso = values.pop("torso", {"name": "conv" if "MinAtar" in environment else "mlp"})
    assert config.hyperparameters == {**defaults, **values}
    assert config.parts["torso"].name == torso["name"]


def test_the_sizes_are_those_of_the_chosen_torso(jaxrl):
    assert "--torso.channels" in jaxrl("train", "ppo", "Breakout-MinAtar", "--help").out
    assert "--torso.channels" not in jaxrl("train", "ppo", "Breakout-MinAtar", "--torso", "mlp", "--help").out
    config, _ = flags.parse(
        ["ppo", "Breakout-MinAtar", "--torso=mlp", "--torso.hidden", "3", "4", "--max-grad-norm", "None", "--squash"]
    )
    assert config.parts["torso"].name == "mlp" and config.parts["torso"].settings["hidden"] == (3, 4)
    assert config.hyperparameters["max_grad_norm"] is None and config.hyperparameters["squash"] is True


def test_numbers_are_read_as_people_write_them():
    arguments = [
        "--steps",
        "1e5",
        "--seeds",
        "1_0",
        "--torso.hidden",
        "32,16",
        "--max-grad-norm",
        "none",
        "--gamma",
        "1",
    ]
    config, _ = flags.parse(["ppo", "CartPole-v1", *arguments])
    assert (config.num_steps, config.seeds, config.parts["torso"].settings["hidden"]) == (100_000, 10, (32, 16))
    assert config.hyperparameters["max_grad_norm"] is None
    assert config.hyperparameters["gamma"] == 1 and type(config.hyperparameters["gamma"]) is float
    assert all(type(value) is int for value in (config.num_steps, *config.parts["torso"].settings["hidden"]))
    for text, number in (("100k", 100_000), ("1.5M", 1_500_000), ("2e6", 2_000_000), ("0.1G", 100_000_000)):
        assert flags.parse(["ppo", "CartPole-v1", "--steps", text])[0].num_steps == number


def test_the_parts_of_an_off_policy_recipe_are_flags(jaxrl):
    config, _ = flags.parse(["dqn", "CartPole-v1", "--num-gradient-steps", "2", "--replay-capacity", "1e4"])
    assert config.parts["torso"].settings["activation"] == "relu", "the torso is the recipe's own"
    assert (config.hyperparameters["num_gradient_steps"], config.hyperparameters["replay_capacity"]) == (2, 10_000)
    config, _ = flags.parse(["dqn", "CartPole-v1", "--replay", "prioritized", "--replay.alpha", "0.5"])
    chosen = config.parts["replay"]
    assert (chosen.name, chosen.settings["alpha"], chosen.settings["beta"]) == ("prioritized", 0.5, 0.4)
    assert RunConfig.from_json(config.to_json()) == config
    plain, _ = flags.parse(["dqn", "CartPole-v1", "--replay", "uniform"])
    assert plain.parts["replay"].settings == {}
    assert "--replay {uniform,prioritized," in jaxrl("train", "dqn", "--help").out
    for arguments, message in (
        (["--replay", "uniforn"], "unknown replay 'uniforn', did you mean 'uniform'? (there are: uniform, prioritized"),
        (["--replay.alpha", "1"], "--replay.alpha is a setting of --replay prioritized"),
        (["--replay", "uniform", "--replay.alpha", "1"], "a setting of --replay prioritized (this run's is uniform)"),
        (["--replay", "prioritized", "--replay.alpha", "2"], "alpha: got 2.0"),
        (["--replay", "prioritized", "--replay.alpha", "a"], "got 'a', must be a number"),
    ):
        outcome = jaxrl("train", "dqn", "CartPole-v1", *arguments)
        assert outcome.code == 2 and message in outcome.error
    outcome = jaxrl("train", "ppo", "CartPole-v1", "--replay", "uniform")
    assert outcome.code == 2 and "--replay is a flag of " in outcome.error and ", not of ppo" in outcome.error
    outcome = jaxrl("train", "dqn", "CartPole-v1", "--replay", "hindsight")
    assert outcome.code == 2 and "replay.hindsight: got CartPole" in outcome.error


@pytest.mark.parametrize("command", [*cli_main.COMMANDS, "train dqn", "train rainbow"])
@pytest.mark.parametrize("columns", [80, 100])
def test_help_fits_the_terminal_and_says_what_a_default_is(capsys, monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert cli_main.main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    about = [line for line in text.splitlines() if not line.startswith("usage")]
    assert max(map(len, about)) <= columns
    description = text.partition("positional arguments")[0]
    assert not re.search(r"^ \w", description, re.MULTILINE), "lines that go on begin where the first does"
    own = text.partition(f"{command.split()[-1]} options")[0]  # None is a value of some hyper-parameters
    assert "default: None" not in " ".join(own.replace("│", "").split())


def test_help_of_train_shows_the_flags_of_every_run(jaxrl):
    shown = jaxrl("train", "--help").out
    assert "usage: jaxrl train [-h] [OPTIONS] RECIPE ENV" in shown
    for flag in (*run_flags.names(), "--torso", "--replay", "--prioritized"):
        assert f"{flag} " in shown or f"{flag}, " in shown
    own = jaxrl("train", "rainbow", "--help").out
    assert all(flag in own for flag in (*run_flags.names(), "--torso", "--replay", "--prioritized"))
    assert "Number of seeds, which are" in shown and "Number of seeds, which are" in own
    assert "--gamma" not in shown and "--gamma" in own
    for text in (shown, own):
        assert all(word in text for word in ("--env.*", "--no-cache", "100k or 1e6", "MODULE:NAME"))


def test_prioritized_is_written_down_in_one_way():
    long, short = (
        flags.parse(["dqn", "CartPole-v1", *arguments])[0]
        for arguments in (["--replay", "prioritized"], ["--prioritized"])
    )
    assert long == short == flags.parse(["dqn", "CartPole-v1", "--prioritized", "--replay", "prioritized"])[0]
    assert short.parts["replay"].name == "prioritized" and "prioritized" not in short.hyperparameters
    rainbow = flags.parse(["rainbow", "CartPole-v1"])[0]
    assert rainbow.parts["replay"] == short.parts["replay"], "the recipe's own"
    for arguments in (["--no-prioritized"], ["--replay", "uniform"], ["--replay", "uniform", "--no-prioritized"]):
        assert flags.parse(["rainbow", "CartPole-v1", *arguments])[0].parts["replay"] == Chosen("uniform", {})
    hindsight = ["dqn", "BitFlipping-5"]
    assert flags.parse([*hindsight, "--no-prioritized"])[0].parts["replay"].name == "hindsight"
    assert flags.parse([*hindsight, "--prioritized"])[0].parts["replay"].name == "prioritized"


@pytest.mark.parametrize("prioritized", [False, True])
def test_the_agent_samples_as_the_configuration_says(prioritized):
    import jax

    word = "--prioritized" if prioritized else "--no-prioritized"
    built = build(flags.parse(["rainbow", "CartPole-v1", word, "--steps", "1000"])[0])
    state = jax.eval_shape(lambda key: built.agent(0).init(key, 8), jax.random.key(0))
    make = replay.prioritized if prioritized else replay.uniform
    expected = make(1000, n_step=10, gamma=0.99).init(replaying.example(built.spec), 8)
    assert jax.tree.structure(state.per_env) == jax.tree.structure(expected)


@pytest.mark.parametrize(
    "arguments", [["--prioritized", "--replay", "uniform"], ["--replay=prioritized", "--no-prioritized"]]
)
def test_flags_that_contradict_each_other_are_refused(jaxrl, arguments):
    outcome = jaxrl("train", "dqn", "CartPole-v1", *arguments)
    assert outcome.code == 2 and "prioritized contradicts --replay " in outcome.error


def test_a_replay_is_no_larger_than_its_run():
    def capacity(*arguments):
        return flags.parse(["dqn", "CartPole-v1", *arguments])[0].hyperparameters["replay_capacity"]

    known = preset("dqn", "CartPole-v1")
    assert capacity() == known["replay_capacity"] < known["num_steps"], "a long run forgets"
    # Updates are of 8 environments x 4 steps, and 62 of them are the whole ones.
    assert capacity("--steps", "2000", "--learning-starts", "500") == 1984
    assert capacity("--steps", "100", "--learning-starts", "500") == 1000, "twice what learning starts with can be held"
    assert capacity("--steps", "1000", "--replay-capacity", "5000") == 5000, "what is asked for stays"
    assert capacity("--steps", "1000", "--replay_capacity=5000") == 5000
    # To wait 50 steps, and up to a rollout more, takes 53 rows of 8, however short the run.
    assert capacity("--steps", "64", "--n-step", "50", "--learning-starts", "8") == 424


def test_list_fits_a_screen(capsys, monkeypatch):
    """24 to 60 lines of at most 80 columns: a line for each recipe and each suite of environments."""
    monkeypatch.setenv("COLUMNS", "80")
    assert cli_main.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 24 <= len(lines) <= 60 and max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1 : len(RECIPES) + 1]] == list(RECIPES)
    assert " ppo             Proximal policy optimisation: several epochs of clipped …" in lines
    assert " pgx (17)             pgx/2048, pgx/animal_shogi, pgx/backgammon, pgx/chess …" in lines
    assert any(line.startswith(" more suites ") and "brax/NAME, playground/NAME" in line for line in lines)
    assert "num_steps" not in "".join(lines), "presets are printed on request"


def test_every_environment_is_in_one_suite():
    listed = suites([*envs.available(), "BitFlipping-N"])
    assert sorted(name for names in listed.values() for name in names) == sorted([*envs.available(), "BitFlipping-N"])
    assert listed["classic control"][0] == "CartPole-v1" and len(listed["MinAtar"]) == 5
    assert "MemoryChain-bsuite" in listed["bsuite"] and {"BitFlipping-N", "PointReach"} <= set(listed["jaxrl"])


def test_list_merges_equal_presets_and_narrows_to_recipes(jaxrl):
    games = "Asterix, Breakout, Freeway, Seaquest, SpaceInvaders-MinAtar num_steps"
    narrow = jaxrl("list", "a2c", "dqn")
    assert games in narrow.out and summary("dqn") in narrow.out and "BitFlipping-N num_steps" in narrow.out
    assert "ppo" not in narrow.out and "environments" not in narrow.out
    assert all(name in narrow.out for name in ("a2c:", "dqn:", "gae_lambda=0.95", "huber_delta=None"))
    unknown = jaxrl("list", "dqnn")
    assert unknown.code == 2 and "got 'dqnn', must be" in unknown.error
    assert merged({"a-x": {"n": 1}, "b-y": {"n": 1}, "c": {"n": 2}}) == [("a-x, b-y", {"n": 1}), ("c", {"n": 2})]


def test_a_pipe_gets_sentences_and_titles_in_one_piece(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    sentence, table = "word " * 100 + "end", Table()
    table.add_row("cell")
    console = make_console()
    console.print(sentence)
    print_titled(console, sentence, table, sentence)
    assert capsys.readouterr().out.splitlines().count(sentence) == 3
    console.print("[lr] of [/a] is no markup")
    assert capsys.readouterr().out == "[lr] of [/a] is no markup\n"
    monkeypatch.setenv("COLUMNS", "80")
    make_console().print(sentence)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80, "COLUMNS asks for wrapped lines"


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_list_keeps_to_the_terminal(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert cli_main.main(["list", "presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert columns * 3 // 4 < max(len(line.rstrip()) for line in lines) <= columns


@pytest.mark.parametrize("recipe", PRESETS)
def test_the_games_of_minatar_have_presets_together(recipe):
    games = {name for name in envs.available() if name.endswith("-MinAtar")}
    assert len(games) == 5 and games & set(PRESETS[recipe]) in (set(), games)


def test_the_complete_lists_are_complete(jaxrl):
    recipes = jaxrl("list", "recipes").out
    assert all(f"{name} {summary(name)}" in recipes for name in RECIPES) and "environments" not in recipes
    listed, suites = jaxrl("list", "environments").out.split("suites, ")
    listed = listed.split()
    assert [name.removesuffix("-N") for name in listed] == envs.available() and "BitFlipping-N" in listed
    for name, suite in ADAPTERS.items():
        expected = "installed" if suite.is_installed else f'not installed: pip install "jaxrl[{suite.extra}]"'
        assert f" {name}/ {'outside JAX' if suite.is_host else 'JAX'} {expected}" in suites
    assert " gymnasium/ outside JAX installed" in suites
    assert all(f" {name}/ JAX not supported: {reason}" in suites for name, reason in REFUSED.items())
    outside = jaxrl("list", "gymnasium").out.split()
    assert outside == envs.available("gymnasium") and "gymnasium/CartPole-v1" in outside
    presets = jaxrl("list", "presets").out
    for rows in PRESETS.values():
        for row in rows.values():
            for name, value in row.items():
                if name in LOOP:
                    assert f"{value:,}" in presets
                elif not isinstance(value, dict):
                    assert f"{name}={value}" in presets


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "pppo", "CartPole-v1"], "unknown recipe 'pppo', did you mean 'ppo'?"),
        (["train", "ppo", "CartPole"], "did you mean 'CartPole-v1'?"),
        (["train", "ppo", "MemoryChain-0"], "jaxrl: MemoryChain-0: memory_length: got 0, must be at least 2"),
        (
            ["train", "ppo", "BitFlipping-N"],
            "did you mean 'BitFlipping'? The size is a number, as in 'BitFlipping-8'",
        ),
        (["train", "ppo", "MemoryChain-6", "--torso", "transformer", "--torso.window"], "--window K"),
        ([*PPO, "--gama", "1"], "--gamma"),
        ([*PPO, "--torso", "mpl"], "unknown torso 'mpl', did you mean 'mlp'"),
        ([*PPO, "--torso", "conv"], "Conv needs images"),
        ([*PPO, "--torso.hiden", "8"], "--torso.hidden"),
        ([*PPO, "--seeds", "two"], "got 'two', must be an integer"),
        ([*PPO, "--num-epochs", "1.5"], "got '1.5', must be an integer"),
        ([*PPO, "--gamma", "high"], "got 'high', must be a number"),
        ([*PPO, "--max-grad-norm", "off"], "got 'off', must be a number or None"),
        (["evaluate"], "jaxrl: RUN is missing (jaxrl evaluate --help shows all flags)"),
        (["evaluate", "nowhere", "--episodes"], "jaxrl: --episodes needs a value (jaxrl evaluate"),
        ([*PPO, "--distributed=2"], "--distributed: got '2', takes no value"),
        ([*PPO, "--lr", "1"], "unknown flag '--lr', did you mean '--learning-rate'?"),
        ([*PPO, "--bogus", "1"], "unknown flag '--bogus' (jaxrl train ppo --help shows all)"),
        ([*PPO, "--hidden", "8"], "unknown flag '--hidden', did you mean '--torso.hidden'?"),
        (
            [*PPO, "--torso.channels", "8"],
            "is a setting of --torso conv (this run's is mlp)",
        ),
        (["train", "a2c", "CartPole-v1", "--clip-epsilon", "1"], "--clip-epsilon is a flag of"),
        (
            [*PPO, "--squash", "yes"],
            "--squash: got 'yes', takes no value; write --squash or --no",
        ),
        ([*PPO, "--squash=True"], "--squash: got 'True', takes no value"),
        ([*PPO, "more"], "unexpected 'more' after 'CartPole-v1'"),
        ([*PPO, "--torso.hidden", "8,x"], "got 'x', must be an integer"),
        ([*PPO, "--torso.hidden", "0"], "torso.hidden: got 0, sizes must be at least 1"),
        (["train", "ppo", "Breakout-MinAtar", "--torso.channels", "-1"], "torso.channels: got -1, sizes must be"),
        ([*PPO, "--seed", "-1"], "seed: got -1, must lie in 0 to 4294967295"),
        (["train", "CartPole-v1", "ppo"], "the recipe comes first: jaxrl train ppo CartPole-v1"),
        ([*PPO, "--out", __file__], "is a file; choose another --out"),
        ([*PPO, "--out", f"{__file__}/run"], "can't be made, since"),
        ([*PPO, "--seeds", "0"], "seeds: got 0, must be at least 1"),
        ([*PPO, "--steps", "10"], "num_steps: got 10, must be at least"),
        ([*PPO, "--gamma", "1.5"], "gamma: got 1.5, must lie in [0, 1]"),
        ([*PPO, "--num-minibatches", "7"], "num_minibatches: got 7, must divide"),
        ([*PPO, "--eval-episodes", "-1"], "eval_episodes: got -1"),
        ([*PPO, "--sweep", "gamma:1"], "--sweep: got 'gamma:1', must be NAME=VALUE"),
        (
            [*PPO, "--sweep", "gama=0.9"],
            "'gama' is no hyper-parameter of ppo, did you mean 'gamma'",
        ),
        (
            [*PPO, "--sweep", "lr=1,2"],
            "did you mean 'learning_rate'? (sweepable: learning_rate,",
        ),
        (
            [*PPO, "--sweep", "gamma=0.9", "0.8"],
            "after 'gamma=0.9'; join several values by",
        ),
        (
            [*PPO, "--sweep", "gamma=0.8,0.9", "--gamma", "1"],
            "--gamma: --sweep sets",
        ),
        ([*PPO, "--sweep", "gamma=1", "--sweep", "gamma=0.9"], "--sweep: gamma is given twice"),
        (
            [*PPO, "--sweep", "num_epochs=1,2"],
            "'num_epochs' is not a float, and only floats can differ",
        ),
        ([*PPO, "--sweep", "loss=1,2"], "'loss' is no hyper-parameter of ppo"),
        ([*PPO, "--init-from", "nowhere"], "nowhere is not a run: there is no such folder"),
        (["train", "ppo"], "the environment comes after the recipe"),
        (["train", "--seeds", "8"], "the recipe comes first"),
        (["evaluate", "nowhere"], "nowhere is not a run: there is no such folder"),
        (["evaluate", __file__], "is not a run: it is a file"),
        (["evaluate", "nowhere", "--seeds", "3"], "unknown flag '--seeds', did you mean '--seed'"),
        (["evaluate", "nowhere", "elsewhere"], "unexpected 'elsewhere' after 'nowhere'"),
        (["evaluate", "nowhere", "--episodes", "0"], "--episodes: got 0"),
        (["evaluate", "nowhere", "--gif", "a.png"], "--gif: got a.png, must end in .gif"),
        (["plot", "nowhere"], "is not a run"),
        (["resume", "nowhere"], "is not a run"),
        (["resume", "nowhere", "--update", "last"], "got 'last', must be an integer or None"),
        (["list", "recipe"], "got 'recipe', must be"),
        (["list", "recipes", "CartPole-v1"], "got 'CartPole-v1', must be"),
        (["evalute", "x"], "unknown command 'evalute', did you mean 'evaluate'?"),
    ],
)
def test_a_wrong_word_is_named_in_one_message(jaxrl, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    outcome = jaxrl(*arguments)
    assert outcome.code == 2
    assert message in outcome.error and outcome.out == ""
    assert outcome.error.startswith("jaxrl: ") and "│" not in outcome.error, "every error is one line of one style"
    assert not list(tmp_path.iterdir()), "a run that can't be leaves nothing behind"


@pytest.mark.parametrize(
    "box",
    [
        ["╭─ Value error ─╮", "│ Error parsing --seeds: got 'two', must │", "│ be an integer │", "│ ─── │", "│ help │"],
        [
            " Value error ",
            " ------------ ",
            "  Error parsing --seeds: got 'two',  ",
            "  must be an integer",
            "  ---",
            "  help",
        ],
    ],
)
def test_the_parser_s_box_becomes_a_sentence(box):
    assert first_sentence("\n".join(box)) == "--seeds: got 'two', must be an integer"


def test_a_second_interrupt_leaves_at_once(capsys, monkeypatch):
    def interrupted(command, arguments):
        raise KeyboardInterrupt

    codes = []
    monkeypatch.setattr(cli_main, "_dispatch", interrupted)
    monkeypatch.setattr(cli_main.sys, "argv", ["jaxrl", "list"])
    monkeypatch.setattr(cli_main.os, "_exit", codes.append)
    assert cli_main.main() == 130 and codes == [130]
    assert cli_main.main(["list"]) == 130 and codes == [130], "called as a function, it ends nobody's process"
    assert capsys.readouterr().err == "jaxrl: interrupted\n" * 2


def test_a_failure_of_another_kind_is_one_line_too_unless_asked_for_more(jaxrl, monkeypatch):
    def broken(command, arguments):
        raise OSError("the disk is\nfull")

    monkeypatch.setattr(cli_main, "_dispatch", broken)
    outcome = jaxrl("list")
    assert (outcome.code, outcome.error) == (1, "jaxrl: OSError: the disk is full")
    monkeypatch.setenv("JAXRL_DEBUG", "1")
    assert "Traceback" in jaxrl("list").error
