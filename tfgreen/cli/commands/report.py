"""``tfgreen report``: what runs have come to, one or several side by side."""

from __future__ import annotations

import argparse
import os

from tfgreen.cli.arguments import add_folder
from tfgreen.cli.command import Command
from tfgreen.cli.models import check_files
from tfgreen.cli.printing import exit_code, give
from tfgreen.files import check_folder


def report(arguments: argparse.Namespace) -> int:
    """Show the report of a run, or compare those of several; exit code 1 if a run does not keep its budget."""
    for folder in arguments.runs:
        check_files(os.path.join(folder, "report.json") if os.path.isdir(folder) else folder)
    from tfgreen.reports.compare import COMPARISON_FILES, compare_reports
    from tfgreen.reports.report import REPORT_FILES, RunReport

    single = len(arguments.runs) == 1
    result = RunReport.load(arguments.runs[0]) if single else compare_reports(arguments.runs)
    reports = [result] if isinstance(result, RunReport) else result.reports.values()
    text = str(result)
    if arguments.output is not None:
        check_folder(arguments.output, REPORT_FILES if single else COMPARISON_FILES)
        text += f"\nwritten to {arguments.output}: {', '.join(path.name for path in result.save(arguments.output))}"
    give(arguments, result.to_dict(), text)
    return max(map(exit_code, reports))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    help = "folder of a run, or its report.json; of several, each is compared with the first"
    parser.add_argument("runs", metavar="RUN", nargs="+", help=help)
    add_folder(parser, help="folder to write the page to, with the same as JSON and Markdown")


COMMAND = Command(report, _add_arguments, ("tfgreen report run", "tfgreen report run other --output comparison"))
