import os
import sys
from pathlib import Path

import pytest

from jobtrail.demo.documents import LARGEST, index, make_samples, read_sample
from jobtrail.demo.tasks import index_document

DOCUMENT = """\
# The sea

The sea's waves, the sea; the WAVES.

```sh
# no heading: a comment in a block of code
```

Ebb and flow
------------

### Third, with a tail ###
#no-heading

Title
=====
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("nobody's business")
    samples = tmp_path / "samples"
    samples.mkdir()
    make_samples(samples)
    return samples


def test_words_and_sections_of_a_document() -> None:
    found = index(DOCUMENT)
    assert found["sections"] == ["The sea", "Ebb and flow", "Third, with a tail", "Title"]
    assert found["most_frequent"][:4] == [("the", 4), ("a", 3), ("sea", 2), ("waves", 2)]
    assert (found["lines"], found["words"], found["different_words"]) == (16, 29, 20)


def test_the_samples_are_real_documents(folder: Path) -> None:
    readme = index(read_sample(folder, "README.md"))
    assert readme["sections"][0] == "Jobtrail"
    licence = read_sample(folder, "python-licence.txt")
    assert "Python Software Foundation" in licence
    assert index(licence)["words"] > 1_000


def test_python_without_its_licence_file_still_has_a_document(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(folder / "nowhere"))
    make_samples(folder)
    assert (folder / "python-licence.txt").read_text() == sys.copyright


def test_the_task_reads_from_the_folder_of_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBTRAIL_DEMO_SAMPLES", str(folder))
    assert index_document("python-licence.txt")["words"] > 1_000


def test_without_a_folder_the_task_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBTRAIL_DEMO_SAMPLES", raising=False)
    with pytest.raises(Exception, match=r"^JOBTRAIL_DEMO_SAMPLES is not set"):
        index_document("README.md")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/etc/passwd", "begins in the samples folder"),
        ("../secret.txt", "begins in the samples folder"),
        ("deeper/../../secret.txt", "begins in the samples folder"),
        ("README.md\0.txt", "begins in the samples folder"),
        ("way-out", "leads out of the samples folder"),
        ("way-up/secret.txt", "leads out of the samples folder"),
        ("circle", "is not in the samples folder"),
        ("dangling", "is not in the samples folder"),
        ("no-such.md", "there is: README.md"),
        ("README.md/x", "is not in the samples folder"),
        ("x" * 1000, "is not in the samples folder"),
        (".", "is not a document"),
        ("pipe", "is not a document"),
        ("large.txt", "is larger than 5 MiB"),
        ("latin.txt", "is not a text in UTF-8"),
    ],
)
def test_refused(folder: Path, path: str, said: str) -> None:
    (folder / "way-out").symlink_to(folder.parent / "secret.txt")
    (folder / "way-up").symlink_to("..")
    (folder / "circle").symlink_to("circle")
    (folder / "dangling").symlink_to("nothing")
    os.mkfifo(folder / "pipe")
    (folder / "large.txt").write_bytes(b" " * (LARGEST + 1))
    (folder / "latin.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(ValueError, match=said):
        read_sample(folder, path)


def test_a_link_that_stays_inside_is_followed(folder: Path) -> None:
    (folder / "manual.md").symlink_to("README.md")
    assert read_sample(folder, "manual.md") == read_sample(folder, "README.md")
