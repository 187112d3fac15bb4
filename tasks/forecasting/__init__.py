"""How the next states are predicted: simple models of all cells at once, blended and calibrated.

The parts, from the ground up (each imports only those above it):

- `specification`: what is fixed between refits; `changes`: how far a variable usually changes;
  `orders` chooses the specification from a sample of captures.
- `kernels`, `sweep`, `climatology`, `arima`, `eof`, `modes`, `blend`, `uncertainty`: the pure
  numerics.
- `state`: what is carried from one capture to the next; `tracking`: one capture after another.
- `candidate`: what a model has to be; `registry`: where those of the user's choice are found.
- `builtin`: the models that are always there; `guarded`: the others.
- `candidates`: what each model predicts; `hindcasts`: the same from reference times in the past.
- `calibration`: how the candidates become a forecast with an error bar; `labels`: the same of
  variables whose values are no numbers.
- `learning`: a state from a window of captures; `outlook`: modes and calibration of a variable.
- `engine`: roll, departures, forecast; `precision`: how fine a state need be kept.
"""

from gnomon.tasks.forecasting.calibration import last_capture_rmse
from gnomon.tasks.forecasting.candidate import CANDIDATES
from gnomon.tasks.forecasting.candidates import names_of
from gnomon.tasks.forecasting.engine import (
    Departures,
    Forecast,
    corrected,
    departures,
    forecast,
    replay,
    roll,
)
from gnomon.tasks.forecasting.guarded import Telling, choose, cost_s, unfitted
from gnomon.tasks.forecasting.learning import Learnt, learn
from gnomon.tasks.forecasting.orders import identify
from gnomon.tasks.forecasting.outlook import Outlook
from gnomon.tasks.forecasting.outlook import fit as fit_outlook
from gnomon.tasks.forecasting.precision import exponents, rounded
from gnomon.tasks.forecasting.specification import Specification, usable
from gnomon.tasks.forecasting.state import (
    CARRIED,
    State,
    empty,
    join,
    pack,
    rows,
    stored_correction,
    unpack,
)
from gnomon.tasks.forecasting.tracking import GATE, drifted

__all__ = [
    "CANDIDATES",
    "CARRIED",
    "GATE",
    "Departures",
    "Forecast",
    "Learnt",
    "Outlook",
    "Specification",
    "State",
    "Telling",
    "choose",
    "corrected",
    "cost_s",
    "departures",
    "drifted",
    "empty",
    "exponents",
    "fit_outlook",
    "forecast",
    "identify",
    "join",
    "last_capture_rmse",
    "learn",
    "names_of",
    "pack",
    "replay",
    "roll",
    "rounded",
    "rows",
    "stored_correction",
    "unfitted",
    "unpack",
    "usable",
]
