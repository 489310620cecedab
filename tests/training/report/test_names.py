"""No stem and no path leaves in an anonymous page."""

from training.report.names import numbers, without_passwords, without_paths


def test_stems_are_numbered_in_order() -> None:
    name = numbers(["ann", "bob", "cid"])
    assert [name(stem) for stem in ("cid", "ann")] == ["case 3", "case 1"]


def test_paths_leave_a_command_and_options_stay() -> None:
    words = [
        "python", "-m", "training", "fit", "--data.root=/home/ann/scans", "--data.spec",
        "/home/ann/dataset.yaml", "--out", "runs/ann-1", "--seed", "3", "--net.widths=[6,10]",
    ]  # fmt: skip
    hidden = without_paths(words, ["ann-1", "/home/ann/scans"])
    assert hidden == [
        "python", "-m", "training", "fit", "--data.root=PATH", "--data.spec", "PATH", "--out",
        "PATH", "--seed", "3", "--net.widths=[6,10]",
    ]  # fmt: skip


def test_passwords_leave_addresses_and_other_text_stays() -> None:
    text = "--trainer.logger.tracking_uri=https://ann:pw@host:5000/a mail a@b.c see http://host/x@y"
    assert without_passwords(text) == (
        "--trainer.logger.tracking_uri=https://HIDDEN@host:5000/a mail a@b.c see http://host/x@y"
    )
