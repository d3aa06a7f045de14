import pytest

from rollama.cli import main as module
from rollama.cli.main import main
from rollama.core.errors import ConfigError, DataError


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_help_lists_all_verbs(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for verb in ("demo", "cohort", "train", "evaluate", "predict", "preview", "serve", "info"):
        assert verb in out


@pytest.mark.parametrize("verb", ["demo", "train", "evaluate", "predict", "preview", "serve", "info", "cohort"])
def test_every_verb_explains_itself(capsys, verb):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    assert "Usage" in out


def test_a_typo_in_a_preset_key_is_one_message(capsys):
    code, _, err = run(capsys, "train", "s", "--preset", "tiny", "--set", "s.lerning=1")
    assert code == 2
    assert "unknown key 's.lerning'" in err
    assert "Traceback" not in err


def test_an_unknown_preset_lists_the_known(capsys):
    code, _, err = run(capsys, "train", "s", "--preset", "huge")
    assert code == 2
    assert "not one of cluster-7b" in err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("note.txt: is empty; give a note"), 1, "error: note.txt: is empty; give a note"),
        (ConfigError("key"), 2, "error: key"),
        (OSError(28, "No space left on device", "/x/y"), 1, "the disk is full (/x/y)"),
        (SystemExit(130), 130, "run the same command again"),
    ],
)
def test_errors_become_one_message(monkeypatch, capsys, error, code, message):
    def fail(args=None):
        raise error

    monkeypatch.setattr(module, "app", fail)
    found, _, err = run(capsys, "info")
    assert found == code
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_predict_wants_exactly_one_text(capsys, tmp_path):
    code, _, err = run(capsys, "predict", "--ct", "x.nii.gz", "--out", str(tmp_path))
    assert code == 1
    assert "exactly one of --note, --summary or --plan; found 0" in err


def test_info_as_json_is_complete(capsys):
    import json

    code, out, _ = run(capsys, "info", "--json")
    found = json.loads(out)
    assert code == 0
    assert set(found["choices"]["TextMethod"]) == {"plain", "neftune", "ceftune"}
    assert "cluster-7b" in found["presets"]
