"""CellFM's network in MindSpore: the parts, the parameter names and the numbers of `torch_network.py`.

Written for GRAPH mode, which compiles `construct` of the cell that is called, and all it calls: `Embedding` and
those after it, and those of `mindspore_objective.py`. Parameters carry the names of the published
checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from models.cellfm.config import CellFMConfig

LEAKY_SLOPE = 0.2
NORM_EPS = 1e-7
RMS_FLOOR = 1e-12


def _zeros(*shape: int) -> Tensor:
    return Tensor(np.zeros(shape, np.float32))


def _linear(inputs: int, outputs: int, bias: bool = False) -> nn.Dense:
    return nn.Dense(inputs, outputs, weight_init="zeros", bias_init="zeros", has_bias=bias)


class ScalarEncoder(nn.Cell):
    """A scalar to a vector: a soft choice among `bins` learned ones."""

    def __init__(self, width: int, bins: int):
        super().__init__()
        self.a = Parameter(_zeros(1, 1))
        self.w1 = _linear(1, bins)
        self.w3 = _linear(bins, bins)
        self.table = _linear(bins, width)

    def construct(self, x):
        h = ops.leaky_relu(self.w1(ops.expand_dims(x, -1)), LEAKY_SLOPE)
        return self.table(ops.softmax(self.w3(h) + self.a * h, -1))


class ValueEncoder(nn.Cell):
    """Expression values to vectors; a hidden value reads `mask_emb`."""

    def __init__(self, width: int, bins: int):
        super().__init__()
        self.mask_emb = Parameter(_zeros(1, 1, width))
        self.value_enc = ScalarEncoder(width, bins)

    def construct(self, values, visible=None):
        encoded = self.value_enc(values)
        if visible is None:
            return encoded
        return ops.where(ops.expand_dims(visible, -1), encoded, self.mask_emb)


class Retention(nn.Cell):
    """Linear attention: relu(Q) (relu(K)ᵀ V) per head, RMS-normalised, gated by silu(U)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.width, self.heads = width, heads
        self.q_proj, self.k_proj = _linear(width, width), _linear(width, width)
        self.v_proj, self.u_proj = _linear(width, width), _linear(width, width)
        self.o_proj = _linear(width, width)
        self.product = ops.BatchMatMul()
        self.transposed_product = ops.BatchMatMul(transpose_a=True)

    def _split(self, x):
        return ops.transpose(ops.reshape(x, (x.shape[0], x.shape[1], self.heads, -1)), (0, 2, 1, 3))

    def construct(self, x, keys):
        """`keys` (n, T) says how many times each position is read as a key."""
        q, k = ops.relu(self._split(self.q_proj(x))), ops.relu(self._split(self.k_proj(x)))
        k = k * ops.reshape(keys, (x.shape[0], 1, x.shape[1], 1))
        o = self.product(q, self.transposed_product(k, self._split(self.v_proj(x))))
        # The floor comes before the root: a head that reads nothing has o = 0 and must keep a finite gradient.
        o = o * ops.rsqrt(ops.maximum(ops.mean(ops.square(o), -1, True), RMS_FLOOR**2))
        o = ops.reshape(ops.transpose(o, (0, 2, 1, 3)), (x.shape[0], x.shape[1], self.width))
        return self.o_proj(o * ops.silu(self.u_proj(x)))


class GatedBilinear(nn.Cell):
    """Feed-forward without activation: the product of two projections, projected."""

    def __init__(self, width: int):
        super().__init__()
        self.u_proj, self.v_proj = _linear(width, width), _linear(width, width)
        self.o_proj = _linear(width, width)

    def construct(self, x):
        return self.o_proj(self.u_proj(x) * self.v_proj(x))


class Dropout(nn.Cell):
    """Dropout by random numbers that are given: the same ones drop the same, in a resumed training too.

    A number for each position is multiplied, modulo 2³², with a fixed odd one for each column; the product is
    uniform, and says whether the value stays. (MindSpore's own draws cannot be saved and set.)
    """

    def __init__(self, width: int, branch: int):
        super().__init__()
        odd = 2 * np.random.default_rng(branch).integers(-(2**30), 2**30, width, np.int32) + 1
        self.columns = Tensor(odd)

    def construct(self, x, noise, lowest, scale):
        """Of x (n, T, d): `noise` int32 (n, T); what is below `lowest` (an int32) drops; `scale` the others."""
        stays = ops.expand_dims(noise, -1) * self.columns >= lowest
        return ops.where(stays, x * scale, ops.zeros_like(x))


class Layer(nn.Cell):
    """Post-norm residual branches, the residual scaled by alpha = (2 · layers)^¼ (DeepNorm)."""

    def __init__(self, config: CellFMConfig):
        super().__init__()
        self.alpha = (2 * config.layers) ** 0.25
        self.drop1, self.drop2 = Dropout(config.width, 1), Dropout(config.width, 2)
        self.attn = Retention(config.width, config.heads)
        self.ffn = GatedBilinear(config.width)
        self.post_norm1 = nn.LayerNorm((config.width,), epsilon=NORM_EPS)
        self.post_norm2 = nn.LayerNorm((config.width,), epsilon=NORM_EPS)

    def construct(self, x, keys, noise=None, lowest=None, scale=None):
        """Without `noise` nothing is dropped; for the three see `Dropout`."""
        branch = self.attn(x, keys)
        if noise is not None:
            branch = self.drop1(branch, noise, lowest, scale)
        x = self.post_norm1(branch + self.alpha * x)
        branch = self.ffn(x)
        if noise is not None:
            branch = self.drop2(branch, noise, lowest, scale)
        return self.post_norm2(branch + self.alpha * x)


class ValueDecoder(nn.Cell):
    """Gene-wise head: a contextual vector to the gene's value, and whether it is expressed."""

    def __init__(self, width: int, add_zero: bool):
        super().__init__()
        self.w1 = _linear(width, width)
        self.w2 = _linear(width, 1)
        if add_zero:
            self.zero_logit = nn.SequentialCell(
                _linear(width, width, bias=True),
                nn.LeakyReLU(LEAKY_SLOPE),
                _linear(width, width, bias=True),
                nn.LeakyReLU(LEAKY_SLOPE),
                _linear(width, 1, bias=True),
            )

    def construct(self, genes):
        return ops.squeeze(self.w2(ops.leaky_relu(self.w1(genes), LEAKY_SLOPE)), -1)

    def expressed(self, genes):
        return ops.sigmoid(ops.squeeze(self.zero_logit(genes), -1))


class CellwiseDecoder(nn.Cell):
    """Cell-wise head: the same from the cell vector and the genes' static embeddings."""

    def __init__(self, width: int, add_zero: bool):
        super().__init__()
        self.map = _linear(width, width)
        self.product = ops.BatchMatMul()
        if add_zero:
            self.zero_logit = _linear(width, width, bias=True)

    def _dot(self, genes, cell):
        return ops.squeeze(self.product(genes, ops.expand_dims(cell, -1)), -1)

    def construct(self, cell, static):
        return self._dot(ops.sigmoid(self.map(static)), cell)

    def expressed(self, cell, static):
        return ops.sigmoid(self._dot(self.zero_logit(static), cell))


class CellFMNetwork(nn.Cell):
    """The whole network.

    Below, `ids` int32 (n, L) are gene ids, `values` float32 (n, L) log-normalised expression, `mask` bool (n, L)
    is True where a gene is expressed and False in padding. Vectors come back as (n, d) for the cell and
    (n, L, d) for the genes; what stands at padding means nothing.
    """

    def __init__(self, config: CellFMConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.half = config.layers // 2
        self.gene_emb = Parameter(_zeros(config.rows, width))
        self.cls_token = Parameter(_zeros(1, 1, width))
        self.zero_emb = Parameter(_zeros(1, 1, width), requires_grad=False)
        self.value_enc = ValueEncoder(width, config.value_bins)
        self.encoder = nn.CellList([Layer(config) for _ in range(config.layers)])
        self.value_dec = ValueDecoder(width, config.add_zero)
        self.cellwise_dec = CellwiseDecoder(width, config.add_zero)

    @classmethod
    def of_state(cls, config: CellFMConfig, state: Mapping[str, np.ndarray]) -> CellFMNetwork:
        """A network with the parameters of a checkpoint.

        Parameters
        ----------
        config
            The architecture.
        state
            Name -> float32 array, exactly those of `torch_network.CellFMNetwork.state_dict()`.
        """
        network = cls(config)
        parameters = network.parameters_dict()
        if set(parameters) != set(state):
            raise KeyError(f"not the parameters of this network: {sorted(set(parameters) ^ set(state))[:8]}")
        for name, parameter in parameters.items():
            if parameter.shape != state[name].shape:
                raise ValueError(f"{name} is {state[name].shape}, expected {parameter.shape}")
            parameter.set_data(Tensor(state[name]))
        return network

    # -- parts ----------------------------------------------------------------------------------------

    def _static(self, ids):
        return ops.gather(self.gene_emb, ids, 0)

    def _with_cls(self, genes):
        return ops.concat((ops.tile(self.cls_token, (genes.shape[0], 1, 1)), genes), 1)

    def _run(self, x, first, second, drop=None):
        """All layers; `first` weighs the keys of the first half of them, `second` those of the rest."""
        for index, layer in enumerate(self.encoder):
            keys = first if index < self.half else second
            given = () if drop is None else (drop[0][index], drop[1][index], drop[2][index])
            x = layer(x, keys, *given)
        return x[:, 0], x[:, 1:]

    def _cls_and(self, mask):
        """Key weights float32 (n, 1 + L): CLS is always read."""
        cls = ops.ones((mask.shape[0], 1), ms.float32)
        return ops.concat((cls, ops.cast(mask, ms.float32)), 1)

    # -- ways to run it -------------------------------------------------------------------------------

    def tokens(self, ids, values, mask):
        """What enters the first layer in `embed`, (n, 1 + L, d), and its key weights (n, 1 + L)."""
        return self._with_cls(self._static(ids) + self.value_enc(values)), self._cls_and(mask)

    def embed(self, ids, values, mask):
        """The official embedding (`Backbone`): every layer reads the expressed genes and CLS."""
        x, keys = self.tokens(ids, values, mask)
        return self._run(x, keys, keys)

    def hidden_tokens(self, ids, values, mask, visible, pad_zero=True):
        """What enters the first layer in `encode`, and the key weights of both halves of the layers."""
        value = self.value_enc(values, visible)
        present = mask
        if not pad_zero:
            present = ids > 0
            unexpressed = ops.logical_and(visible, ops.logical_not(mask))
            value = ops.where(ops.expand_dims(unexpressed, -1), self.zero_emb, value)
        first = self._cls_and(ops.logical_and(visible, present))
        return self._with_cls(self._static(ids) + value), first, self._cls_and(present)

    def encode(self, ids, values, mask, visible, pad_zero=True, drop=None):
        """The pretraining path (`CellFM.encode`); arguments as in `torch_network.CellFMNetwork.encode`.

        `drop`: for dropout, a tuple of what `Dropout` is given in each layer, stacked.
        """
        x, first, second = self.hidden_tokens(ids, values, mask, visible, pad_zero)
        return self._run(x, first, second, drop)

    def decode(self, cell, genes, ids):
        """Predicted log-normalised values (n, L), from the gene vectors and from the cell vector."""
        return self.value_dec(genes), self.cellwise_dec(cell, self._static(ids))

    def decode_expressed(self, cell, genes, ids):
        """Predicted probabilities (n, L) that a gene is expressed; needs the `add_zero` heads."""
        return self.value_dec.expressed(genes), self.cellwise_dec.expressed(cell, self._static(ids))


class Embedding(nn.Cell):
    """(ids, values, mask) -> cell and gene vectors of the official embedding."""

    def __init__(self, network: CellFMNetwork):
        super().__init__(auto_prefix=False)  # the parameters keep their names
        self.network = network

    def construct(self, ids, values, mask):
        return self.network.embed(ids, values, mask)


class Tokens(nn.Cell):
    """(ids, values, mask) -> what enters the first layer, and its key weights."""

    def __init__(self, network: CellFMNetwork):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, ids, values, mask):
        return self.network.tokens(ids, values, mask)


class LayerwiseEmbedding:
    """The same as `Embedding`, layer by layer through one graph, for batches of any shape.

    MindSpore (on CPU) keeps what a graph computes until its end: 17 arrays of (n, L, d) a layer, some 8 GB for a cell
    in the 800M model. One layer is therefore compiled, once and for all shapes, and lent each layer's parameters.

    Parameters
    ----------
    network
        With its parameters set; it is not changed.
    """

    def __init__(self, network: CellFMNetwork):
        self._layers = [list(layer.get_parameters()) for layer in network.encoder]
        self._tokens = Tokens(network)
        self._layer = Layer(network.config)
        self._lent = list(self._layer.get_parameters())

        def any_shape(kind, *last):
            return Tensor(shape=[None, None, *last], dtype=kind)

        self._tokens.set_inputs(any_shape(ms.int32), any_shape(ms.float32), any_shape(ms.bool_))
        self._layer.set_inputs(any_shape(ms.float32, network.config.width), any_shape(ms.float32))

    def __call__(self, ids: Tensor, values: Tensor, mask: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Arrays (n, d) and (n, L, d)."""
        x, keys = self._tokens(ids, values, mask)
        for parameters in self._layers:
            for lent, parameter in zip(self._lent, parameters, strict=True):
                lent.set_data(parameter)
            x = self._layer(x, keys)
        x = x.asnumpy()
        return x[:, 0], x[:, 1:]
