"""Pictures for a report, drawn by hand as SVG: dots, curves, histograms, shares, square panels, a track.

No plotting library, no fonts, no script: a picture is a string of SVG that takes its colours from the
page's style sheet (classes ``kind-...``), so it follows light and dark. Every picture can be read without the text
around it: it carries its title, axes and legend, and a description for readers who hear it. ``width`` is in CSS
pixels and text keeps its size: draw once for a desk and once for a phone rather than shrink one into the other.
"""

from sft.reports.charts.bars import Bars, Share, histograms, shares
from sft.reports.charts.curves import Line, curves
from sft.reports.charts.dots import Dot, Mark, dots
from sft.reports.charts.marks import CHARACTER, NARROW, Entry, ticks
from sft.reports.charts.panels import Panel, Place, Series, squares, track

__all__ = [
    "CHARACTER",
    "NARROW",
    "Bars",
    "Dot",
    "Entry",
    "Line",
    "Mark",
    "Panel",
    "Place",
    "Series",
    "Share",
    "curves",
    "dots",
    "histograms",
    "shares",
    "squares",
    "ticks",
    "track",
]
