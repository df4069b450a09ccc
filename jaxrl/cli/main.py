"""The entry point: chooses the command, and turns errors into one line and an exit code.

Exit codes: 0 done; 1 failed (numbers that are not finite, a checkpoint that can't be read); 2 asked wrongly (an
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
    "evaluate": "play whole episodes with a trained run, print a table of returns: jaxrl evaluate RUN",
    "play": "play a game against a trained run at the terminal: jaxrl play RUN",
    "elo": "rate the players of a game over their training, and draw it: jaxrl elo RUN",
    "plot": "draw the learning curves of one or many runs: jaxrl plot RUN...",
    "resume": "go on with a run that was interrupted: jaxrl resume RUN",
    "list": "print the recipes, the environments and the presets: jaxrl list",
}


def usage() -> str:
    """What ``jaxrl --help`` prints. Written here, since a parser would import all commands, and JAX with them."""
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
            "jaxrl COMMAND --help says more; jaxrl train RECIPE ENV --help shows all flags with their defaults there.",
            "Compiled programs are kept in the user's cache folder; --no-cache compiles anew.",
            "JAXRL_DEBUG=1 shows the traceback of an error.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: without the program's name; None takes the process's.

    Returns:
      The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    try:
        return _dispatch(arguments[0], _with_cache(arguments[1:]))
    except SystemExit as stop:  # of the parser, which has printed what is wrong
        return stop.code if isinstance(stop.code, int) else 1
    except BrokenPipeError:  # of "| head", which has seen enough; nor is there anybody to tell
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
    """Ends the process: a computation still in flight would crash the interpreter on its usual way out, or keep it."""
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(code)
    return code


def _with_cache(arguments: list[str]) -> list[str]:
    """Has JAX keep compiled programs in the user's cache folder, unless told not to; the arguments without the flag.

    It reads this when it is imported. Keys of the cache have the versions and the device.
    """
    if "--no-cache" in arguments:
        os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
        return [argument for argument in arguments if argument != "--no-cache"]
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/.cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(home, "jaxrl", "programs"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    # Of what it reads from there XLA says in vain that it was compiled with options that are no features of a machine.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return arguments


def _dispatch(command: str, arguments: list[str]) -> int:
    if command == "--version":
        print(importlib.import_module("importlib.metadata").version("jaxrl"))
        return 0
    if command not in COMMANDS:
        hint = importlib.import_module("jaxrl.arguments").nearest(command, COMMANDS)
        raise UsageError(f"unknown command '{command}'{hint} (commands: {', '.join(COMMANDS)})")
    if command in ("train", "resume"):
        importlib.import_module("jaxrl.cli.hosts").connect(arguments)
    module = importlib.import_module(f"jaxrl.cli.{command}")
    return module.main(arguments)


def _failed_among_others(error: Exception) -> int:
    """Says what is wrong, of what all processes fail with once; leaves them where this one alone fails."""
    processes = sys.modules.get("jaxrl.processes")
    together = processes is not None and getattr(error, "of_all_processes", False)
    if processes is not None and together and not processes.is_first():
        return _exit_code(error)
    code = _failed(_one_line(error), _exit_code(error))
    if processes is not None and not together:
        # On the usual way out it would wait for the other processes, and they are waiting for it.
        processes.leave(code)
    return code


def _exit_code(error: Exception) -> int:
    code = getattr(error, "exit_code", None)
    if isinstance(code, int):
        return code
    # Imported here: both are loaded already where one of them was raised, and --help needs neither.
    from jaxrl.envs import UnknownEnvironment
    from jaxrl.runs.config import ConfigError
    from jaxrl.runs.folder import RunError
    from jaxrl.runs.recipes import UnknownName

    return 2 if isinstance(error, (ConfigError, RunError, UnknownEnvironment, UnknownName)) else 1


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    # An error of the library says what is wrong by itself; of any other, the type is half of the message.
    own = type(error).__module__.startswith("jaxrl")
    return text if own and text else f"{type(error).__name__}: {text}"


def _failed(message: str, code: int) -> int:
    if os.environ.get("JAXRL_DEBUG") == "1":
        traceback.print_exc()
    print(f"jaxrl: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
