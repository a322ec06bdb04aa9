"""``report.html``: everything that a comparison came to, in one file that opens from disk without a network.

``content`` gathers what the page shows as plain data, ``curves`` and ``folder`` its larger parts; ``report.html``,
``report.css`` and ``report.js`` are the page itself; and ``write`` puts them into one file with plotly.js.
"""

from gnnscale.compare.page.write import write_page

__all__ = ["write_page"]
