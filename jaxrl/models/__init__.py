"""Learned models of environments, and their fitting.

Models for planners, search and dreams are ``jaxrl.types.Model``s, like the true simulator.
"""

from jaxrl.models.as_env import ModelEnv, ModelEnvParams, ModelEnvState, as_env
from jaxrl.models.dream import DreamState, dream, first, observe, wake
from jaxrl.models.ensemble import Ensemble, EnsembleParams, EnsembleState, Prediction, ensemble, only
from jaxrl.models.fit import Fitted, fit, held_out_rows
from jaxrl.models.images import ConvDecoder, ConvEncoder, MLPDecoder
from jaxrl.models.likelihoods import BERNOULLI, SUM_OF_SQUARES, Likelihood, normal
from jaxrl.models.mdn_rnn import LSTMMemory, mdn_rnn
from jaxrl.models.mixture import Chain, Mixture
from jaxrl.models.sequence import LatentSequences, Outputs, SequenceModel
from jaxrl.models.transformer import Cache, transformer
from jaxrl.models.vae import VAE, Latent, Terms, vae

__all__ = [
    "Cache",
    "Chain",
    "DreamState",
    "LSTMMemory",
    "LatentSequences",
    "Mixture",
    "ModelEnv",
    "ModelEnvParams",
    "ModelEnvState",
    "Outputs",
    "SequenceModel",
    "as_env",
    "dream",
    "first",
    "mdn_rnn",
    "observe",
    "transformer",
    "wake",
    "BERNOULLI",
    "SUM_OF_SQUARES",
    "VAE",
    "ConvDecoder",
    "ConvEncoder",
    "Latent",
    "Likelihood",
    "MLPDecoder",
    "Terms",
    "normal",
    "vae",
    "Ensemble",
    "EnsembleParams",
    "EnsembleState",
    "Fitted",
    "Prediction",
    "ensemble",
    "fit",
    "held_out_rows",
    "only",
]


def __dir__() -> list[str]:
    return sorted(__all__)
