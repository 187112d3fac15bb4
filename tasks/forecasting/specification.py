"""What a forecaster is told once per refit, and never learns by itself.

It does not choose the values: `gnomon.tasks.forecasting.orders.identify` does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gnomon.storage.errors import InvalidInput
from gnomon.storage.values.documents import plain_name, whole

FORMAT_VERSION = 7
"""Of what is learnt: with another one it is learnt anew."""

type Array = NDArray[np.float64]

LARGEST = 1e150
"""Absolute value from which nothing can be computed; larger ones count as missing."""
LARGEST_FORM = 2**12
"""Leads, modes, lags and candidates that are far beyond what anything is fitted with."""
MOST_TERMS = 129
"""Columns of the harmonic regression, at most: three pairs for each of the periods that a user may
give, and a few that are found. The work grows with their cube: a forged record may not stall."""
LARGEST_ORDER = 16
"""Of an ARIMA process, far beyond the 3 that is searched to."""
MEMORY = 350.0
"""Captures after which what was learnt counts a third: regimes last weeks, not months of hours."""
MEMORY_PERIODS = 5.0
"""The same, in cycles of the longest period: a season must be seen several times."""


@dataclass(frozen=True, slots=True)
class Specification:
    """Form of the model of one variable, fixed between refits.

    Raises
    ------
    InvalidInput
        If a value is out of its range, or `periods_s` and `harmonics`, or `candidates` and
        `versions`, differ in length.
    """

    periods_s: tuple[float, ...]
    """Seasonal periods in seconds, each > 0; empty when there is no season."""
    harmonics: tuple[int, ...]
    """Number of sine and cosine pairs of each period, each >= 1."""
    order: tuple[int, int, int]
    """(p, d, q) of the anomalies' ARIMA process, d 0 or 1."""
    interval_s: float
    """Mean seconds between two slots, > 0."""
    leads: int
    """H, number of slots ahead that are predicted, >= 1."""
    origin_s: float
    """Time, in seconds, at which the phase of every harmonic is zero."""
    minimum: float | None
    """Least possible value in the variable's units; predictions are clipped. None: no bound."""
    maximum: float | None
    """Greatest possible value in the variable's units; predictions are clipped. None: no bound."""
    tolerance: float
    """Chunk RMSE in the variable's units that the user can live with, >= 0; of labels, the share of
    a chunk's cells that may have another one."""
    usual_change: float | None = None
    """Root mean square change over one slot that was measured, variable's units; of labels, the
    share of cells that change. 0: it never changed; None: no two captures in a row are known."""
    categorical: bool = False
    """Whether values are labels: then the forecast is the last capture, and errors are shares of
    cells that have another one."""
    modes: int = 0
    """M, number of EOF modes that the cells follow."""
    candidates: tuple[str, ...] = ()
    """Names of the candidates beside the built-in ones, in the order of the candidate axis."""
    versions: tuple[int, ...] = ()
    """Of what each of them leaves behind: by another version it is not understood."""
    lags: int = 0
    """Slots of the past that they predict from, at most."""

    def __post_init__(self) -> None:
        if len(self.periods_s) != len(self.harmonics):
            raise InvalidInput(
                f"found {len(self.periods_s)} periods and {len(self.harmonics)} harmonics, "
                "expected one number of harmonics per period"
            )
        if any(not period > 0 for period in self.periods_s) or any(n < 1 for n in self.harmonics):
            raise InvalidInput(
                f"found periods of {self.periods_s} s with {self.harmonics} harmonics, "
                "expected periods > 0 and harmonics >= 1"
            )
        if min(self.order) < 0 or self.order[1] > 1:
            raise InvalidInput(f"found order {self.order}, expected p >= 0, d 0 or 1, q >= 0")
        if not self.interval_s > 0:
            raise InvalidInput(f"found an interval of {self.interval_s} s, expected > 0")
        if self.leads < 1:
            raise InvalidInput(f"found {self.leads} leads, expected at least 1")
        if len(self.versions) != len(self.candidates):
            raise InvalidInput(
                f"found {len(self.candidates)} candidates and {len(self.versions)} versions, "
                "expected one version per candidate"
            )
        if not (self.tolerance >= 0 and math.isfinite(self.tolerance)):
            raise InvalidInput(f"found tolerance {self.tolerance}, expected a finite value >= 0")
        if self.usual_change is not None and not 0 <= self.usual_change < math.inf:
            raise InvalidInput(
                f"found a usual change of {self.usual_change}, expected a finite value >= 0"
            )

    @property
    def is_constant(self) -> bool:
        """Whether the variable never changed in what was seen of it."""
        return self.usual_change == 0

    @property
    def terms(self) -> int:
        """K, number of columns of the harmonic regression, the intercept included."""
        return 1 + 2 * sum(self.harmonics)

    @property
    def memory(self) -> float:
        """Effective number of captures that the climatology remembers, at most."""
        longest = max(self.periods_s, default=0.0) / self.interval_s
        return max(MEMORY, MEMORY_PERIODS * longest)

    @property
    def recent(self) -> int:
        """P, number of last values that the state keeps: those of the process, at least 3."""
        return max(3, self.order[0] + self.order[1], self.lags)

    def plain(self) -> Specification:
        """The same with the built-in candidates alone.

        Its `lags` stay, as the state is laid out by them.
        """
        return replace(self, candidates=(), versions=())

    def to_json(self) -> dict[str, object]:
        """Plain JSON types; `from_json` restores an equal value."""
        document = {"version": FORMAT_VERSION, **asdict(self)}
        if not self.candidates:  # as programs wrote it that knew of no others
            for name in ("candidates", "versions", "lags"):
                del document[name]
        return document

    @staticmethod
    def is_current(document: Mapping[str, object]) -> bool:
        """Whether a JSON form is of this version; an older one is identified anew."""
        return document.get("version") == FORMAT_VERSION

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> Specification:
        """Specification from the output of `to_json`, before or after a trip through JSON.

        Raises
        ------
        InvalidInput
            If the version is not known, or a field is missing, unknown or of the wrong kind.
        """
        fields = dict(document)
        version = fields.pop("version", None)
        if version != FORMAT_VERSION:
            raise InvalidInput(
                f"found version {version}, expected {FORMAT_VERSION}; upgrade gnomon"
            )
        try:
            for name, kind in (("periods_s", float), ("harmonics", int), ("order", int)):
                items = fields[name]
                if not isinstance(items, list | tuple):
                    raise TypeError(f"{name} is not a list")
                fields[name] = tuple(kind(item) for item in items)
            names = fields.get("candidates", ())
            if not isinstance(names, list | tuple):
                raise TypeError("candidates is not a list of names")
            fields["candidates"] = tuple(plain_name(name) for name in names)
            versions = fields.get("versions", [1] * len(names))
            if not isinstance(versions, list | tuple):
                raise TypeError("versions is not a list of numbers")
            fields["versions"] = tuple(whole(v, "a version", least=0) for v in versions)
            spec = cls(**fields)  # type: ignore[arg-type]  # checked by __post_init__
            for what, count, most in (
                ("leads", spec.leads, LARGEST_FORM),
                ("modes", spec.modes, LARGEST_FORM),
                ("lags", spec.lags, LARGEST_FORM),
                ("candidates", len(spec.candidates), LARGEST_FORM),
                ("terms", spec.terms, MOST_TERMS),
                ("order", max(spec.order), LARGEST_ORDER),
            ):
                whole(count, what, least=0, most=most)
            return spec
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"not a specification: {error}") from error


def clip(spec: Specification, values: Array) -> Array:
    """Values within the bounds of the variable; NaN stays NaN.

    Parameters
    ----------
    spec : Specification
    values : float64, any shape, variable's units

    Returns
    -------
    float64, shape of `values`
        The argument itself when the variable has no bounds.
    """
    if spec.minimum is None and spec.maximum is None:
        return values
    return np.clip(values, spec.minimum, spec.maximum)


def usable(values: Array) -> Array:
    """Values as float64, NaN where they are infinite or too large to be squared."""
    floats = np.asarray(values, dtype=np.float64)
    return np.where(np.abs(floats) < LARGEST, floats, np.nan)
