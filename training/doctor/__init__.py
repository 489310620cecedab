"""``python -m training doctor``: what would break or spoil a training, told before it starts.

training/data/survey.py   the faults that ``fit`` refuses; not repeated here
training/doctor/
    command.py            options, what is printed, the exit code
    examination.py        survey + the checks below -> one Examination
    surprises.py          images: 16 bit, alpha, blank
    coverage.py           masks: empty, one class all over, classes that never occur
    coding.py             masks: 0/255, colours, blended edges, JPEG -> a proposed meaning
    proposal.py           that meaning as dataset.yaml, with converted masks where needed
    duplicates.py         images: the same or nearly the same picture, and what their masks say
    parts.py              a split file: groups, classes and duplicates across its parts
    summary.py            what the data are like, in lines
    record.py             all of it as JSON
    page.py, pictures.py  all of it as one HTML file
"""
