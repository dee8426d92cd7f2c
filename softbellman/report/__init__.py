"""What a person sees of runs: progress, the learning curve, tables, reports, sheets of captions."""

from softbellman.report.console import Console
from softbellman.report.curve import draw_curve
from softbellman.report.progress import Bar, Progress
from softbellman.report.results import render
from softbellman.report.sheet import draw_sheet
from softbellman.report.study_page import write_report
from softbellman.report.tables import format_table

__all__ = ["Bar", "Console", "Progress", "draw_curve", "draw_sheet", "format_table", "render", "write_report"]
