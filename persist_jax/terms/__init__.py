"""From a network's activations to points, from these to one number of the loss."""

from persist_jax.terms import regularisers
from persist_jax.terms.activations import activations_of
from persist_jax.terms.living import constant_neurons, living_deaths, living_neurons
from persist_jax.terms.measures import measures
from persist_jax.terms.regularisers import REGULARISERS, l1, l2, register, t1, t2
from persist_jax.terms.sampling import Labels, Neuron, sample_neurons
from persist_jax.terms.term import Term, make_term

__all__ = [
    "Labels",
    "Neuron",
    "REGULARISERS",
    "Term",
    "activations_of",
    "constant_neurons",
    "l1",
    "l2",
    "living_deaths",
    "living_neurons",
    "make_term",
    "measures",
    "register",
    "regularisers",
    "sample_neurons",
    "t1",
    "t2",
]
