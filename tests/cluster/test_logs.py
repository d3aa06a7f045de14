import pytest

from rollama.cluster.exits import Unreachable
from rollama.cluster.logs import JobLog, Replay, kept_lines, sortable

JOB = {"metadata": {"name": "job", "uid": "0123abcd-0000"}}
CUT = Unreachable("cut")


OPEN: list[JobLog] = []


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ROLLAMA_CACHE", str(tmp_path))
    yield
    while OPEN:
        OPEN.pop().close()


def stamped(*lines, start=0):
    return [f"2026-11-24T10:00:{start + number:02d}.5Z {line}" for number, line in enumerate(lines)]


def reader(api, make_pod, parts, job=JOB):
    """A log over one pod for each key of `parts`, the last one the newest; every value is a list of readings."""
    api.log_parts = {name: list(readings) for name, readings in parts.items()}
    api.pod_list = [
        make_pod("submitter", name, uid=name, created=f"2026-11-24T10:{number:02d}:00Z")
        for number, name in enumerate(parts)
    ]
    shown = []
    OPEN.append(JobLog(api, job, shown.append))
    return OPEN[-1], shown


def test_lines_are_shown_once_over_a_cut_connection(api, make_pod):
    log, shown = reader(api, make_pod, {"a": [[*stamped("one", "two"), CUT], stamped("one", "two", "three")]})
    with pytest.raises(Unreachable):
        log.read(follow=True)
    log.read(follow=True)
    assert shown == ["one", "two", "three"]


def test_equal_lines_at_different_times_are_all_shown(api, make_pod):
    log, shown = reader(api, make_pod, {"a": [stamped("tick", "tick", "tick")]})
    log.read(follow=True)
    assert shown == ["tick"] * 3


def test_a_replaced_pod_repeats_the_log_and_only_the_rest_is_shown(api, make_pod):
    log, shown = reader(api, make_pod, {"a": [stamped("submitted", "one", "two", "two")]})
    log.read(follow=True)
    api.pod_list.append(make_pod("submitter", "b", uid="b", created="2026-11-24T11:00:00Z"))
    api.log_parts["b"] = [stamped("one", "two", "two", "two", "three", start=30)]
    log.read(follow=True)
    assert shown == ["submitted", "one", "two", "two", "two", "three"]


def test_a_new_greeting_before_the_repetition_is_shown_and_the_repetition_not():
    replay = Replay()
    assert [replay.is_new(line) for line in ("hello 1", "one", "two")] == [True] * 3
    replay.begin()
    assert [replay.is_new(line) for line in ("hello 2", "one", "two", "three", "one")] == [
        True,
        False,
        False,
        True,
        True,
    ]


def test_the_log_is_kept_and_shown_when_the_pods_are_gone(api, make_pod):
    log, _ = reader(api, make_pod, {"a": [stamped("one", "two")]})
    log.start()
    log.finish()
    assert list(kept_lines("team", "job")) == ["one", "two"]
    assert log.path.stat().st_mode & 0o077 == 0
    assert list(kept_lines("team", "jo")) == [] and list(kept_lines("other", "job")) == []


def test_a_second_reader_shows_what_is_kept_and_goes_on(api, make_pod):
    log, _ = reader(api, make_pod, {"a": [stamped("one", "two")]})
    log.start()
    log.finish()
    again, shown = reader(api, make_pod, {"a": [stamped("one", "two", "three")]})
    again.read(follow=False)
    assert shown[-1] == "three"
    assert again.path.read_text().splitlines() == ["one", "two", "three"]


def test_a_job_of_the_same_name_but_another_uid_has_its_own_log(api, make_pod):
    log, _ = reader(api, make_pod, {"a": [stamped("old")]})
    log.start()
    log.finish()
    other, shown = reader(api, make_pod, {"a": [stamped("new")]}, {"metadata": {"name": "job", "uid": "ffff0000-1"}})
    other.read(follow=False)
    assert shown == ["new"]


def test_two_readers_at_once_keep_each_line_once(api, make_pod):
    first, _ = reader(api, make_pod, {"a": [stamped("one", "two")]})
    second, shown = reader(api, make_pod, {"a": [stamped("one", "two"), stamped("one", "two")]})
    first.read(follow=False)
    second.read(follow=False)
    assert shown == ["one", "two"] and first.path.read_text() == "one\ntwo\n"


def test_terminal_control_does_not_pass(api, make_pod):
    log, shown = reader(api, make_pod, {"a": [stamped("\x1b[31mred\x1b[0m\x07 \x1b]0;title")]})
    log.read(follow=False)
    assert "\x1b" not in shown[0] and "\x07" not in shown[0] and shown[0].startswith("red")


def test_the_tail_leaves_out_what_the_submitter_adds(api, make_pod):
    lines = ["error: no data", "2026-11-24 10:00:00,1\tERR cli.py:99 -- ----", "Job 'x' failed", "-----", ""]
    log, _ = reader(api, make_pod, {"a": [stamped(*lines)]})
    log.read(follow=False)
    assert log.tail() == ["error: no data", "error: no data"]
    for number in range(60):
        log._show(f"(TrainController) {number}")
    assert log.tail()[0] == "error: no data", "whatever other processes say after it"


def test_without_a_pod_nothing_happens(api):
    shown = []
    JobLog(api, JOB, shown.append).read(follow=False)
    assert shown == []


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2026-11-24T10:00:01Z", "2026-11-24T10:00:01.5Z"),
        ("2026-11-24T10:00:01.5Z", "2026-11-24T10:00:01.51Z"),
        ("2026-11-24T10:00:01.123456789Z", "2026-11-24T10:00:02Z"),
        ("2026-11-24T10:00:01.49+02:00", "2026-11-24T10:00:01.5+02:00"),
    ],
)
def test_time_stamps_sort_as_text(earlier, later):
    assert "" < sortable(earlier) < sortable(later)


@pytest.mark.parametrize("text", ["", "one", "2026-11-24", "10:00"])
def test_what_is_no_time_stamp(text):
    assert sortable(text) == ""
