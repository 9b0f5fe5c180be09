"""Readers: networks that other libraries made or stored, as :class:`~fisherfield.Network`.

=========================  ==========================================================================
reader                     takes
=========================  ==========================================================================
:func:`from_torch`         ``torch.nn.Sequential`` of ``Linear`` layers and activations, or a ``Linear``
:func:`from_sklearn`       a fitted ``MLPClassifier`` or ``MLPRegressor``
:func:`from_flax`          the parameters of Flax's ``Dense`` (or NNX's ``Linear``) layers
:func:`from_keras`         ``keras.Sequential`` of ``Dense`` layers, or its ``get_weights()``
:func:`load`               a ``.safetensors`` or ``.npz`` file
=========================  ==========================================================================

The arrays are copies: training goes on without changing what was read. Outputs are those of the last dense layer, so a
softmax or a sigmoid at the end is the matter of the likelihood. What a :class:`~fisherfield.Network` cannot express is
refused, by the name of the layer. No reader imports the library it reads from.
"""

from __future__ import annotations

from .files import load
from .flax import from_flax
from .keras import from_keras
from .pytorch import from_torch
from .scikit_learn import from_sklearn

__all__ = ["from_flax", "from_keras", "from_sklearn", "from_torch", "load"]
