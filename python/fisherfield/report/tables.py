"""Tables on the terminal: theory beside measurement, as aligned text and as plain dictionaries."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

__all__ = ["Comparison", "Row", "format_number", "plain", "table"]


def format_number(value: float | None, digits: int = 4) -> str:
    """Return a number with significant digits; a dash for what does not exist.

    Parameters
    ----------
    value : float or None
        NaN counts as None.
    digits : int
        Default 4.

    Returns
    -------
    str
    """
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}g}"


def _format_error(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f} %"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Align cells in columns, the first ``left`` of them to the left, the others to the right.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequence of str
        As long as the header.
    left : int
        Columns to the left (default 1).

    Returns
    -------
    str
        Lines, without one at the end.

    Raises
    ------
    ValueError
        For a row of another length.
    """
    cells = [tuple(header), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, tuple("-" * width for width in widths))
    align = [str.ljust] * left + [str.rjust] * (len(widths) - left)
    lines = ("  ".join(f(cell, width) for f, cell, width in zip(align, row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def plain(value: Any) -> Any:
    """Return lists, dictionaries, numbers and strings for strict JSON; None for NaN and infinity.

    Parameters
    ----------
    value : dataclass, dict, list, tuple, array, number, str or None
        Nested as they may be; an array of NumPy.

    Returns
    -------
    dict, list, int, float, bool, str or None
        Anything else is returned as it is.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True)
class Row:
    """One quantity: what theory predicts beside what networks show.

    Attributes
    ----------
    quantity : str
        Name of the quantity.
    symbol : str
        Its symbol, in ASCII.
    theory : float
        Leading order of the wide limit; NaN where there is no theory.
    refined : float or None
        Prediction with the exact finite-width counts.
    measured : tuple of float
        One value per network.
    """

    quantity: str
    symbol: str
    theory: float
    refined: float | None
    measured: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over networks."""
        return float(np.mean(self.measured))

    @property
    def spread(self) -> float | None:
        """Standard deviation over networks; None for a single one, or if a value is infinite."""
        if len(self.measured) == 1 or not np.isfinite(self.measured).all():
            return None
        return float(np.std(self.measured, ddof=1))

    @property
    def relative_error(self) -> float | None:
        """``theory / mean - 1``."""
        return self._relative_error(self.theory)

    @property
    def refined_relative_error(self) -> float | None:
        """``refined / mean - 1``."""
        return self._relative_error(self.refined)

    def _relative_error(self, prediction: float | None) -> float | None:
        if prediction is None or math.isnan(prediction) or self.mean == 0 or not math.isfinite(self.mean):
            return None
        return prediction / self.mean - 1

    def as_dict(self) -> dict[str, Any]:
        """Return every field and derived number, for JSON."""
        return {
            "quantity": self.quantity,
            "symbol": self.symbol,
            "theory": self.theory,
            "refined": self.refined,
            "measured": self.measured,
            "mean": self.mean,
            "spread": self.spread,
            "relative_error": self.relative_error,
            "refined_relative_error": self.refined_relative_error,
        }


@dataclass(frozen=True)
class Comparison:
    """Theory beside measurement, one quantity a row; ``comparison["maximum"]`` is a row.

    Attributes
    ----------
    rows : tuple of Row

    Examples
    --------
    >>> from fisherfield.report import Comparison, Row
    >>> print(Comparison((Row("maximum", "lambda_max", 254.0, 256.0, (250.0, 262.0)),)).text())
    quantity  symbol      theory  refined  measured  +- spread   error  refined error
    --------  ----------  ------  -------  --------  ---------  ------  -------------
    maximum   lambda_max     254      256       256      8.485  -0.8 %         +0.0 %
    """

    rows: tuple[Row, ...]

    def __getitem__(self, quantity: str) -> Row:
        """Return the row of a quantity, by name."""
        for row in self.rows:
            if row.quantity == quantity:
                return row
        raise KeyError(f"expected one of {', '.join(row.quantity for row in self.rows)}, got {quantity!r}")

    def select(self, *quantities: str) -> Comparison:
        """Return the comparison of some quantities only.

        Parameters
        ----------
        *quantities : str
            Names, in the order that the rows get.

        Returns
        -------
        Comparison

        Raises
        ------
        KeyError
            If there is no row of that name.
        """
        return Comparison(tuple(self[quantity] for quantity in quantities))

    def text(self) -> str:
        """Return an aligned table in plain ASCII."""
        header = (
            "quantity",
            "symbol",
            "theory",
            "refined",
            "measured",
            "+- spread",
            "error",
            "refined error",
        )
        return table(
            header,
            (
                (
                    row.quantity,
                    row.symbol,
                    *map(format_number, (row.theory, row.refined, row.mean, row.spread)),
                    *map(_format_error, (row.relative_error, row.refined_relative_error)),
                )
                for row in self.rows
            ),
            left=2,
        )

    def as_dict(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries, for JSON."""
        return [row.as_dict() for row in self.rows]
