"""Pictures for a report, drawn by hand: dots, curves, histograms, shares, square panels, a way.

No plotting library, no fonts, no script: a picture is a string of HTML whose marks are inline SVG. It takes its colours
from the page's style sheet (classes ``kind-...``), so it follows light and dark. It is drawn once, for any width:
positions are in per cent, so the page stretches the marks, and the page's layout wraps the words, so text keeps its
size. Every picture can be read without the text around it: it carries its title, axes and legend, and a description
for readers who hear it.
"""

from sft.reports.charts.bars import Bars, Share, histograms, shares
from sft.reports.charts.curves import Line, curves
from sft.reports.charts.dots import Dot, Mark, dots
from sft.reports.charts.marks import Entry, ticks
from sft.reports.charts.panels import Panel, Place, Series, squares, track

__all__ = [
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
