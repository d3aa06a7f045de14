from rollama import RESEARCH_ONLY
from rollama.core.manifest import git_revision, run_manifest


def test_manifest_says_what_made_the_output():
    manifest = run_manifest("adapter", {"lr": 1}, "hash", seconds=3)
    assert manifest["notice"] == RESEARCH_ONLY
    assert manifest["config"] == {"lr": 1}
    assert manifest["config_hash"] == "hash"
    assert manifest["seconds"] == 3
    assert "torch" in manifest["packages"]


def test_revision_is_a_commit():
    revision = git_revision()
    assert revision is None or len(revision.rstrip("+")) == 40
