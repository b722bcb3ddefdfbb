"""The gradient of the network, differentiated by hand in NumPy."""

import numpy as np


def gradients(params, features, labels):
    """Mean cross-entropy of a tanh network, differentiated by hand."""
    inner, outer = params["Dense_0"], params["Dense_1"]
    units = np.tanh(features @ inner["kernel"] + inner["bias"])
    logits = units @ outer["kernel"] + outer["bias"]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    d_logits = (shares - np.eye(logits.shape[1])[labels]) / len(labels)
    d_units = (d_logits @ outer["kernel"].T) * (1 - units**2)
    return {
        "Dense_0": {"kernel": features.T @ d_units, "bias": d_units.sum(axis=0)},
        "Dense_1": {"kernel": units.T @ d_logits, "bias": d_logits.sum(axis=0)},
    }
