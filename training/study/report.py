"""Write everything that a study says into its folder: tables, figures, page, summary."""

from pathlib import Path

from training.fit.atomic import replace_file
from training.study.analyse import analyse, write_tables
from training.study.figures import draw_figures
from training.study.fresh_nets import draw_fresh
from training.study.page import as_html
from training.study.probe_figures import draw_probes
from training.study.record import read_record
from training.study.summary import as_summary

PAGE, SUMMARY = "report.html", "summary.md"


def write_report(root: Path) -> Path:
    """Write ``arms.csv``, ``tests.csv``, ``figures/``, ``summary.md`` and ``report.html``.

    Args:
        root: the study's folder; what is not done yet is said on top.

    Returns:
        The page.

    Raises:
        StudyError: the folder holds no study.
    """
    analysis = analyse(read_record(root))
    write_tables(analysis, root)
    draw = (draw_figures, draw_probes, draw_fresh)
    figures = [figure for draw_some in draw for figure in draw_some(analysis, root)]
    _write(root / SUMMARY, as_summary(analysis, figures))
    _write(root / PAGE, as_html(analysis, figures))
    return root / PAGE


def _write(path: Path, text: str) -> None:
    replace_file(path, lambda file: file.write(text.encode()))
