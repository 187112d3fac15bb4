"""A small recurrent network over the EOF modes, the same for all of them.

JAX trains it, from the extra ``gnomon[lstm]``; what is stored are its weights, and NumPy predicts
from them.
"""

from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gnomon.tasks.forecasting.candidate import ModeRecord
from gnomon.tasks.forecasting.modes import Independent
from gnomon.tasks.forecasting.specification import Array

__all__ = ["Lstm"]

HIDDEN = 16
"""Units: a record of some hundred captures does not support more."""
LENGTH = 24
"""Slots that it looks back."""
INPUTS = 2
"""Per slot: the amplitude, and that one season before the first lead, or 0 without a season."""
BATCH, STEPS, EVERY, PATIENCE = 256, 600, 20, 6
"""Sequences of a step; steps at most; steps between looks at what is held out; looks without a gain
before it stops."""
RATE = 5e-3
"""Step of Adam (Kingma and Ba 2015)."""
DECAY = 1e-4
"""Weight decay."""
HELD_OUT = 0.2
"""Share of the record, the latest, that decides when training stops."""
GROWTH = 1.25
"""Growth of the record that another fit pays for."""
FEWEST = 48
"""Captures below which it is not trained; until then each mode goes on by itself, as the built-in
candidate has it."""


class Weights(NamedTuple):
    """Of one network for H leads."""

    inputs: Any
    """(2, 64)"""
    recurrent: Any
    """(16, 64)"""
    bias: Any
    """(64,)"""
    out: Any
    """(16, H)"""
    keep: Any
    """(H,) share of the last amplitude that is still there at each lead."""


class Lstm:
    """A long short-term memory (Hochreiter and Schmidhuber 1997) that predicts all leads at once.

    Each mode is one series, in units of its own size; they share the network.
    """

    per: Literal["mode"] = "mode"
    name = "lstm"
    cost_s = 15.0

    def fit(self, record: ModeRecord, before: Array | None) -> Array:
        """Return the number of captures that were learnt from, the season, and the weights.

        Parameters
        ----------
        record : ModeRecord
        before : float64, optional
            An earlier fit, which is given back until the record has grown by a quarter.
        """
        slots = len(record.amplitudes)
        season = record.season
        is_new = before is None or not before.size or season != before[1]
        if not is_new and before is not None and slots < GROWTH * before[0]:
            return before
        if slots < FEWEST:
            return np.empty(0)
        scaled = record.amplitudes / _size(record)
        captured = record.weights > 0.0
        weights = _train(_inputs(scaled, season), scaled, captured, record.spec.leads)
        return np.concatenate([[float(slots), season], *(np.ravel(part) for part in weights)])

    def predict(self, parameters: Array, record: ModeRecord, leads: int) -> Array:
        """Return the predicted amplitudes (H, M)."""
        if not parameters.size or len(record.amplitudes) < LENGTH:
            return Independent().predict(np.empty(0), record, leads)
        size = _size(record)
        weights = _unpack(parameters[2:], record.spec.leads)
        # The season of the fit: a longer record may know of one that the network never saw.
        inputs = _inputs(record.amplitudes / size, int(parameters[1]))[-LENGTH:]
        return np.asarray(_run(np, weights, inputs).T[:leads] * size)


def _size(record: ModeRecord) -> Array:
    """Root mean square (M,) of the amplitudes that were captured."""
    captured = record.amplitudes[record.weights > 0.0]
    square = (captured**2).sum(axis=0) / max(len(captured), 1)
    return np.asarray(np.sqrt(np.maximum(square, 1e-300)))


def _inputs(scaled: Array, season: int) -> Array:
    """What the network sees (T, M, 2) of scaled amplitudes (T, M)."""
    before = np.zeros_like(scaled)
    if season:
        before[season - 1 :] = scaled[: len(scaled) - season + 1]
    return np.stack([scaled, before], axis=2)


def _run(library: Any, weights: Weights, inputs: Any) -> Any:
    """Predicted scaled amplitudes (n, H) from inputs (L, n, 2), by NumPy or JAX."""
    hidden = cell = library.zeros((inputs.shape[1], HIDDEN))
    for step in range(inputs.shape[0]):
        gates = inputs[step] @ weights.inputs + hidden @ weights.recurrent + weights.bias
        enter, forget, leave, new = library.split(gates, 4, axis=1)
        cell = cell * _logistic(library, forget) + _logistic(library, enter) * library.tanh(new)
        hidden = _logistic(library, leave) * library.tanh(cell)
    return inputs[-1, :, :1] * weights.keep + hidden @ weights.out


def _logistic(library: Any, x: Any) -> Any:
    return 0.5 * (1.0 + library.tanh(0.5 * x))


def _first(leads: int) -> Weights:
    """Weights to begin with, always the same."""
    draw = np.random.default_rng(0)
    bias = np.zeros(4 * HIDDEN)
    bias[HIDDEN : 2 * HIDDEN] = 1.0  # it begins by remembering (Gers et al. 2000)
    return Weights(
        0.3 * draw.standard_normal((INPUTS, 4 * HIDDEN)),
        0.2 * draw.standard_normal((HIDDEN, 4 * HIDDEN)),
        bias,
        np.zeros((HIDDEN, leads)),
        0.8 ** np.arange(1.0, leads + 1.0),
    )


def _unpack(packed: Array, leads: int) -> Weights:
    shapes = [part.shape for part in _first(leads)]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    parts = np.split(packed, ends[:-1])
    return Weights(*(p.reshape(s) for p, s in zip(parts, shapes, strict=True)))


def _train(inputs: Array, scaled: Array, captured: NDArray[np.bool_], leads: int) -> Weights:
    """Weights that did best on the latest part of the record, which they were not fitted to."""
    step, loss, initial = _trainer(leads)
    slots, modes = scaled.shape
    ends = np.arange(LENGTH - 1, slots - leads)
    split = int(len(ends) * (1.0 - HELD_OUT))
    if split < 1 or split == len(ends):
        return _first(leads)
    draw = np.random.default_rng(0)
    record = inputs, scaled, captured
    held = _sequences(*record, *_drawn(draw, ends[split:], modes), leads)
    # What is held out must not be in a target that is learnt.
    learnt = ends[:split][ends[:split] + leads <= ends[split]]
    if not len(learnt):
        return _first(leads)
    weights, memory = initial()
    best, least, waited = weights, float("inf"), 0
    for number in range(STEPS):
        if number % EVERY == 0:
            left = float(loss(weights, *held))
            waited = 0 if left < least else waited + 1
            best, least = (weights, left) if left < least else (best, least)
            if waited > PATIENCE:
                break
        batch = _sequences(*record, *_drawn(draw, learnt, modes), leads)
        weights, memory = step(weights, memory, *batch)
    return Weights(*(np.asarray(part, np.float64) for part in best))


def _drawn(draw: np.random.Generator, ends: Any, modes: int) -> tuple[Any, Any]:
    """Ends and modes of the sequences of one batch."""
    return draw.choice(ends, BATCH), draw.integers(0, modes, BATCH)


def _sequences(
    inputs: Array,
    scaled: Array,
    captured: NDArray[np.bool_],
    ends: Any,
    modes: Any,
    leads: int,
) -> tuple[Array, Array, Array]:
    """Inputs (L, n, 2) of sequences, what came (n, H), and whether it did, as 1 or 0."""
    back = ends[None] - np.arange(LENGTH - 1, -1, -1)[:, None]
    ahead = ends[:, None] + np.arange(1, leads + 1)
    seen = inputs[back, modes[None]].astype(np.float32)
    target = scaled[ahead, modes[:, None]].astype(np.float32)
    return seen, target, captured[ahead].astype(np.float32)


@cache
def _trainer(leads: int) -> tuple[Any, Any, Any]:
    """Step, loss and first weights of networks for so many leads, compiled once."""
    import jax
    import optax

    optimiser = optax.adamw(RATE, weight_decay=DECAY)

    def loss(weights: Weights, inputs: Any, target: Any, came: Any) -> Any:
        squares = (_run(jax.numpy, weights, inputs) - target) ** 2
        return (squares * came).sum() / jax.numpy.maximum(came.sum(), 1.0)

    @jax.jit  # type: ignore[untyped-decorator, unused-ignore]
    def step(weights: Weights, memory: Any, inputs: Any, target: Any, came: Any) -> Any:
        slope = jax.grad(loss)(weights, inputs, target, came)
        change, memory = optimiser.update(slope, memory, weights)
        return optax.apply_updates(weights, change), memory

    def initial() -> tuple[Weights, Any]:
        weights = Weights(*(jax.numpy.asarray(p, jax.numpy.float32) for p in _first(leads)))
        return weights, optimiser.init(weights)

    return step, jax.jit(loss), initial
