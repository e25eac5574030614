"""What a clustered weight is assigned to: found anew from weights and centroids, and so never sent."""

from __future__ import annotations

import keras

from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.compressed import chained_weights


class Clusters:
    """The assignments of all clustered weights of a model (``tg.cluster``).

    They take a byte for each weight, and an average of those of several clients means nothing.
    """

    def __init__(self, model: keras.Model) -> None:
        chained = [weight for _, _, weight in chained_weights(model)]
        self._found = [w for w in chained if any(isinstance(t, Codebook) for t in w.chain.transforms)]

    @property
    def variables(self) -> list[keras.Variable]:
        """Those that follow from weights and centroids."""
        codebooks = [t for w in self._found for t in w.chain.transforms if isinstance(t, Codebook)]
        return [variable for codebook in codebooks for variable in codebook.assigned]

    def assign(self) -> None:
        """Assign each weight to the centroid that is nearest by now."""
        for weight in self._found:
            value = weight.value
            for transform in weight.chain.transforms:
                if isinstance(transform, Codebook):
                    transform.assign(value)
                value = transform.apply(value)
