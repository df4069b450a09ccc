"""Judges that read: texts of what happened are compared, or scored, by a language model or a function.

The parts: ``template`` writes texts; ``function``, ``server`` and ``language_model`` are judges; ``in_both_orders``
asks about pairs. A judge works on the host, between the chunks of a run, and its labels enter a reward model as arrays.
"""

from jaxrl.feedback.judge_cache import Cache
from jaxrl.feedback.judge_client import KEY_VARIABLE, Client, Limits, Reply
from jaxrl.feedback.judge_language_model import byte_writer, language_model, likelihood
from jaxrl.feedback.judge_server import server
from jaxrl.feedback.judge_texts import NAMES, Names, Texts, names_of, pairs_of, template
from jaxrl.feedback.judge_types import (
    Judge,
    JudgeError,
    Opinions,
    Verdicts,
    by_scores,
    function,
    in_both_orders,
    opinions,
)

__all__ = [
    "KEY_VARIABLE",
    "NAMES",
    "Cache",
    "Client",
    "Judge",
    "JudgeError",
    "Limits",
    "Names",
    "Opinions",
    "Reply",
    "Texts",
    "Verdicts",
    "by_scores",
    "byte_writer",
    "function",
    "in_both_orders",
    "language_model",
    "likelihood",
    "names_of",
    "opinions",
    "pairs_of",
    "server",
    "template",
]
