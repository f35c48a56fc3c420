import pytest

from taskvec.data import Scenes, load_data


def test_scenes_by_name() -> None:
    assert load_data("scenes", "test", 2, 5) == Scenes("test", 2, 5)
    with pytest.raises(ValueError, match="there is no data set 'imagenet': expected one of scenes"):
        load_data("imagenet")
