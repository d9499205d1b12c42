import pytest

from kvae.files import whole


def test_a_file_appears_only_when_all_is_written(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole(path) as partial:
        partial.write_text("all")
        assert not path.exists()
        assert partial.suffix == path.suffix
    assert path.read_text() == "all"


def test_a_failure_leaves_the_former_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("former")
    with pytest.raises(KeyboardInterrupt), whole(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]
