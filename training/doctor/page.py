"""The examination as one HTML file: it opens anywhere and loads nothing."""

from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np

from training.data.case import Case
from training.data.findings import FindingGroup, short
from training.doctor.examination import Examination
from training.doctor.pictures import palette_of, picture_uri
from training.doctor.proposal import Proposal
from training.doctor.summary import summary_rows

SHOWN_CASES = 12
SHOWN_PER_FINDING = 4
LISTED_FILES = 200

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse } td { padding: .15rem 1rem .15rem 0; vertical-align: top }
td:first-child { color: #666; white-space: nowrap }
article { border-left: 4px solid #999; padding: .1rem 1rem; margin: 1rem 0; background: #f7f7f7 }
article.fault { border-color: #c22 } article.warning { border-color: #d80 }
article p { margin: .4rem 0 } .kind { color: #666; font-size: .85em }
figure { display: inline-block; margin: .3rem .6rem .3rem 0 }
figcaption { font-size: .8em; color: #666 } img { display: block; max-width: 100% }
.key span { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #161616 } article { background: #222 }
}
"""


def write_page(examined: Examination, proposal: Proposal | None, path: Path) -> None:
    """Write the page; pictures are embedded."""
    path.write_text("\n".join(_parts(examined, proposal)), encoding="utf-8")


def _parts(examined: Examination, proposal: Proposal | None) -> Iterator[str]:
    name = escape(examined.surveyed.root.resolve().name)
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{name}: data set examined</title><style>{STYLE}</style></head><body>"
    )
    yield f"<h1>{name}</h1><p>{escape(verdict(examined))}</p><h2>What it is like</h2><table>"
    for what, how in summary_rows(examined):
        yield f"<tr><td>{escape(what)}</td><td>{escape(how)}</td></tr>"
    yield "</table>"
    by_file = _cases_by_file(examined)
    if examined.findings:
        yield "<h2>Findings</h2>"
    for group in examined.groups:
        yield from _finding(group, examined, proposal, by_file)
    yield from _samples(examined, proposal)
    yield "<p class='kind'>Research use only; not a medical device.</p></body></html>"


def verdict(examined: Examination) -> str:
    """Return one sentence on whether the set can be trained on."""
    faults, warnings, notes = (examined.count(s) for s in ("fault", "warning", "note"))
    rest = f"{warnings} warning(s), {notes} note(s)"
    if faults:
        return f"{faults} fault(s): fit refuses this data set. {rest}."
    if warnings:
        return f"No fault: fit takes this data set. {rest}."
    return f"Clean: fit takes this data set. {notes} note(s)."


def _finding(
    group: FindingGroup,
    examined: Examination,
    proposal: Proposal | None,
    by_file: dict[Path, Case],
) -> Iterator[str]:
    root, first = examined.surveyed.root, group.first
    count = f", {len(group.findings)} times" if len(group.findings) > 1 else ""
    yield f'<article class="{first.severity}"><p><b>{escape(first.found)}</b>{count} '
    yield f'<span class="kind">{first.severity}, {first.kind}</span></p>'
    yield f"<p>→ {escape(first.remedy)}</p>"
    for finding in group.findings[:SHOWN_PER_FINDING]:
        for path in (finding.where, *finding.others):
            if path in by_file:
                yield _figure(by_file[path], examined, proposal)
    lines = [
        escape(f"{short(f.where, root)}{': ' + f.detail if f.detail else ''}")
        for f in group.findings[:LISTED_FILES]
    ]
    if len(group.findings) > LISTED_FILES:
        lines.append(f"… and {len(group.findings) - LISTED_FILES} more in the JSON file")
    yield f"<details{' open' if len(lines) < 6 else ''}><summary>files</summary>"
    yield "<br>".join(lines) + "</details></article>"


def _samples(examined: Examination, proposal: Proposal | None) -> Iterator[str]:
    cases = examined.surveyed.cases
    if not cases:
        return
    yield "<h2>Images and masks</h2>"
    if proposal is not None:
        yield "<p>Refused masks are drawn as they are probably meant.</p>"
    spec = examined.surveyed.spec if proposal is None else proposal.spec
    first = 1 if spec.task == "multiclass" else 0
    entries = list(enumerate(spec.classes[first:], start=1))
    colours = palette_of(examined, len(entries))
    keys = [
        f'<span style="background:rgb{colours[index]}"></span>{escape(entry.name)}'
        for index, entry in entries
    ]
    yield f'<p class="key">{"".join(keys)}</p>'
    places = np.linspace(0, len(cases) - 1, min(len(cases), SHOWN_CASES)).round().astype(int)
    for place in places:
        yield _figure(cases[place], examined, proposal)


def _figure(case: Case, examined: Examination, proposal: Proposal | None) -> str:
    uri = picture_uri(case, examined, proposal)
    if uri is None:
        return f"<figure><figcaption>{escape(case.stem)}: unreadable</figcaption></figure>"
    caption = f"<figcaption>{escape(case.stem)}</figcaption>"
    return f'<figure><img alt="{escape(case.stem)}" src="{uri}">{caption}</figure>'


def _cases_by_file(examined: Examination) -> dict[Path, Case]:
    found: dict[Path, Case] = {}
    for case in examined.surveyed.cases:
        for path in (case.image, *case.mask_files, case.mask_files[0].parent):
            found.setdefault(path, case)
    # A folder of all masks is nobody's own.
    for folder in (examined.surveyed.spec.images, examined.surveyed.spec.masks):
        found.pop(examined.surveyed.root / folder, None)
    return found
