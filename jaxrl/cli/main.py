"""The entry point: selects the command, and turns errors into one line and an exit code.

Exit codes: 0 success; 1 failure (numbers that are not finite, a checkpoint that can't be read); 2 wrong usage (an
unknown name, a value out of range); 130 interrupted, after saving.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from jaxrl.cli.errors import UsageError

COMMANDS = {
    "train": "train a population of seeds: jaxrl train RECIPE ENV [flags]",
    "evaluate": "play whole episodes with a trained run and print the returns: jaxrl evaluate RUN",
    "label": "compare clips for a run with --teacher person: jaxrl label RUN",
    "play": "play a game against a trained run in the terminal: jaxrl play RUN",
    "elo": "rate the players of a two-player run over training, and draw the ratings: jaxrl elo RUN",
    "plot": "draw the learning curves of one or many runs: jaxrl plot RUN...",
    "resume": "continue a run that was interrupted: jaxrl resume RUN",
    "list": "print the recipes, the environments and the presets: jaxrl list",
}


def usage() -> str:
    """The text of ``jaxrl --help``, written here because a parser would import all commands, and JAX with them."""
    lines = [f"  {name:<10}{line}" for name, line in COMMANDS.items()]
    return "\n".join(
        [
            "usage: jaxrl COMMAND ...",
            "",
            "Functional reinforcement learning in JAX.",
            "",
            "commands:",
            *lines,
            "",
            "jaxrl COMMAND --help shows its flags; jaxrl train RECIPE ENV --help shows all flags with their defaults.",
            "Compiled programs are cached in the user's cache folder; --no-cache turns this off.",
            "JAXRL_DEBUG=1 shows the traceback of an error.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: the arguments without the program's name; None takes those of the process.

    Returns:
      The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    try:
        return _dispatch(arguments[0], _with_cache(arguments[1:]))
    except SystemExit as stop:  # raised by the parser, which has printed the message
        return stop.code if isinstance(stop.code, int) else 1
    except BrokenPipeError:  # the reader, such as "| head", has stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        code = _failed("interrupted", 130)
        return _leave(code) if argv is None else code
    except Exception as error:
        code = _failed_among_others(error)
        # Several processes end together, on the usual way out.
        alone = "jaxrl.processes" not in sys.modules or not sys.modules["jaxrl.processes"].are_many()
        return _leave(code) if code == 130 and argv is None and alone else code


def _leave(code: int) -> int:
    """Ends the process: a computation in progress would crash or block the interpreter at a normal exit."""
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)
    return code


def _with_cache(arguments: list[str]) -> list[str]:
    """Makes JAX cache compiled programs in the user's cache folder unless told not to; returns the other arguments.

    JAX reads the setting when it is imported. The cache keys include versions and the device.
    """
    if "--no-cache" in arguments:
        os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
        return [argument for argument in arguments if argument != "--no-cache"]
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/.cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(home, "jaxrl", "programs"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    # XLA warns of machine features that differ from those of the cached program, without effect on it.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return arguments


def _dispatch(command: str, arguments: list[str]) -> int:
    if command == "--version":
        print(importlib.import_module("importlib.metadata").version("jaxrl"))
        return 0
    if command not in COMMANDS:
        hint = importlib.import_module("jaxrl.arguments").nearest(command, COMMANDS)
        raise UsageError(f"unknown command '{command}'{hint} (commands: {', '.join(COMMANDS)})")
    if command == "label":  # the accelerator is the run's, and drawing needs none
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if command in ("train", "resume"):
        importlib.import_module("jaxrl.cli.hosts").connect(arguments)
    module = importlib.import_module(f"jaxrl.cli.{command}")
    return module.main(arguments)


def _failed_among_others(error: Exception) -> int:
    """Prints an error of all processes once; if only this process fails, ends it without waiting for the others."""
    processes = sys.modules.get("jaxrl.processes")
    together = processes is not None and getattr(error, "of_all_processes", False)
    if processes is not None and together and not processes.is_first():
        return _exit_code(error)
    code = _failed(_one_line(error), _exit_code(error))
    if processes is not None and not together:
        # A normal exit would wait for the other processes, which wait for this one.
        processes.leave(code)
    return code


def _exit_code(error: Exception) -> int:
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return code
    # Imported here: both are loaded already if one of them was raised, and --help needs neither.
    from jaxrl.envs import UnknownEnvironment
    from jaxrl.runs.config import ConfigError
    from jaxrl.runs.folder import RunError
    from jaxrl.runs.recipes import UnknownName

    return 2 if isinstance(error, (ConfigError, RunError, UnknownEnvironment, UnknownName)) else 1


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    # The library's messages are complete; for any other error the type is needed too.
    own = type(error).__module__.startswith("jaxrl")
    return text if own and text else f"{type(error).__name__}: {text}"


def _failed(message: str, code: int) -> int:
    if os.environ.get("JAXRL_DEBUG") == "1":
        traceback.print_exc()
    print(f"jaxrl: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
