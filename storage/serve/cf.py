"""What is served beside the values, told in the terms of the CF conventions.

Errors, provenance and confidence are ancillary variables.  What a prediction says of itself must
hold: it refers to nothing that is not served with it.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from gnomon.storage.serve.planes import PROVENANCE
from gnomon.storage.values.model import Variable
from gnomon.storage.values.units import conversion

__all__ = [
    "CONVENTIONS",
    "WHOLE",
    "about_confidence",
    "about_error",
    "about_expected_error",
    "about_provenance",
    "referring_to",
    "with_ancillary",
    "with_conventions",
]

CONVENTIONS = (1, 11)
"""The first version of CF with all that is used here: unsigned flags (1.9), `units_metadata`."""
_VERSION = re.compile(r"CF-(\d+)\.(\d+)")
WHOLE = "actual_range"
"""Attribute that holds of all states of a source together, and not of one of them."""
_LISTS = ("ancillary_variables", "coordinates", "bounds", "climatology", "grid_mapping")
_PAIRS = ("cell_measures", "formula_terms")
"""Attributes that name other variables: alone, or each after what it is."""
_SHARED = ("coordinates", "grid_mapping")
"""What is true of the values' places is true of those of what stands beside them."""


def with_conventions(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes of a dataset whose `Conventions` allow what is served beside the values."""
    told = str(attributes.get("Conventions", "")).strip()
    needed = f"CF-{CONVENTIONS[0]}.{CONVENTIONS[1]}"
    version = _VERSION.search(told)
    if version is None:
        told = f"{told}, {needed}" if told else needed
    elif tuple(map(int, version.groups())) < CONVENTIONS:
        told = told.replace(version[0], needed, 1)
    return {**attributes, "Conventions": told}


def referring_to(attributes: Mapping[str, Any], served: Collection[str]) -> dict[str, Any]:
    """Return the attributes of a predicted variable, which refer only to what is served.

    Parameters
    ----------
    served
        Names of the variables that are served with it, and of those kept in files elsewhere.
    """
    kept = dict(attributes)
    for key in {*_LISTS, *_PAIRS}.intersection(kept):
        words = str(kept[key]).split()
        # 'crs: x y' of an extended grid mapping, 'area: name' and 'ps: name' have keys.
        names = [word for word in words if not word.endswith(":")]
        if all(name in served for name in names):
            continue
        rest = [name for name in names if name in served]
        if key in _LISTS and names == words and rest:
            kept[key] = " ".join(rest)
        else:
            del kept[key]
    return kept


def with_ancillary(attributes: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return attributes of values that name what stands beside them."""
    before = str(attributes.get("ancillary_variables", "")).split()
    return {**attributes, "ancillary_variables": " ".join(dict.fromkeys([*before, *names]))}


def about_error(variable: Variable, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of the standard error of values with the given attributes."""
    about = _shared(attributes) | {"_FillValue": np.float32(np.nan)}
    if variable.categorical:
        # Flags have no units, and what may be wrong with one is that another one is true.
        name = f"probability that {variable.name} is another"
        return about | {"units": "1", "long_name": name}
    standard_name = str(attributes.get("standard_name", "")).split()
    if len(standard_name) == 1:  # CF allows one modifier
        about["standard_name"] = f"{standard_name[0]} standard_error"
    return about | _difference(attributes) | {"long_name": f"standard error of {variable.name}"}


def about_expected_error(variable: Variable, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of the expected RMSE of each lead."""
    units = {"units": "1"} if variable.categorical else _difference(attributes)
    what = "share of cells" if variable.categorical else "root mean square error"
    return units | {"long_name": f"expected {what} of {variable.name} at this lead"}


def about_provenance(variable: Variable, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of the flags that say where each cell comes from."""
    return _shared(attributes) | {
        "standard_name": "status_flag",
        "long_name": f"provenance of {variable.name}",
        "flag_values": np.array(list(PROVENANCE.values()), np.uint8),
        "flag_meanings": " ".join(PROVENANCE),
    }


def about_confidence(
    variable: Variable, attributes: Mapping[str, Any], tolerance: float
) -> dict[str, Any]:
    """Return the attributes of the confidence, which all cells of a chunk share.

    Parameters
    ----------
    tolerance
        In the units of the attributes.
    """
    units = "" if variable.categorical else str(attributes.get("units", ""))
    within = f"{tolerance:.3g} {units}".strip()
    return _shared(attributes) | {
        "units": "1",
        "long_name": f"confidence that the chunk of {variable.name} is within {within}",
        "valid_min": np.float32(0),
        "valid_max": np.float32(1),
        "_FillValue": np.float32(np.nan),
    }


def _shared(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: attributes[name] for name in _SHARED if name in attributes}


def _difference(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the units of an error of values: of a temperature it is a difference of two."""
    units = str(attributes.get("units", ""))
    if "units" not in attributes:
        return {}
    if units.strip() and conversion(units, "K") is not None:
        return {"units": units, "units_metadata": "temperature: difference"}
    return {"units": attributes["units"]}
