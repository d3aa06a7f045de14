import pytest

from rollama.core.errors import DataError
from rollama.training.metrics_log import MetricsLog, read_metrics


def test_the_last_line_of_a_step_wins_and_cut_lines_are_passed_over(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    first = MetricsLog(path)
    for step in (1, 2, 3):
        first.after_step(step, {"loss": float(step)})
    with path.open("a") as stream:
        stream.write('{"step": 4, "lo')
    path.write_text(path.read_text() + "\n")
    again = MetricsLog(path, attempt=1)
    again.after_step(3, {"loss": 30.0})
    again.after_step(4, {"loss": 40.0})
    rows = read_metrics(path)
    assert [(row["step"], row["loss"], row["attempt"]) for row in rows] == [
        (1, 1.0, 0),
        (2, 2.0, 0),
        (3, 30.0, 1),
        (4, 40.0, 1),
    ]
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_a_log_that_cannot_be_written_is_an_error_of_ours(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.path.mkdir()
    with pytest.raises(DataError, match=r"metrics\.jsonl: cannot be written"):
        log.after_step(1, {"loss": 1.0})
