"""Reports: tables on the terminal, and pages of HTML on a network of one's own.

The function is called :func:`html_report`, for ``fisherfield.report`` is this package.
"""

from .page import Report, html_report
from .tables import Comparison, Row, format_number, plain, table

__all__ = ["Comparison", "Report", "Row", "format_number", "html_report", "plain", "table"]
