from pathlib import Path

import pytest

from taskvec.data import Scenes, load_data


def test_scenes_by_name() -> None:
    assert load_data("scenes", "test", fold=2, seed=5) == Scenes("test", 2, 5)


def test_what_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no data set 'imagenet': expected one of scenes, pictures, pascal, folder, p"):
        load_data("imagenet")
    (tmp_path / "words.csv").write_text("a,b\n")
    with pytest.raises(
        ValueError, match=r"words\.csv is a file: `--data pairs` reads files of word pairs, folders are"
    ):
        load_data("folder", root=tmp_path / "words.csv")
    with pytest.raises(ValueError, match="scenes has no root: it takes seed, count"):
        load_data("scenes", root=tmp_path)
    with pytest.raises(ValueError, match="pictures has no root: it takes no options"):
        load_data("pictures", "test", root=tmp_path)
    with pytest.raises(ValueError, match="pictures have no split 'train': expected test"):
        load_data("pictures", "train")
    with pytest.raises(ValueError, match=r"folder has no folds \(--fold\): it takes root, metric"):
        load_data("folder", root=tmp_path, fold=1)
    with pytest.raises(ValueError, match=r"pascal needs root \(--root\), the directory that holds it"):
        load_data("pascal")
    with pytest.raises(ValueError, match=r"pairs needs root \(--root\), the file that holds them"):
        load_data("pairs")
    with pytest.raises(ValueError, match=r"relations needs the name of one \(--task\), such as country-capital"):
        load_data("relations")
    with pytest.raises(ValueError, match=r"there is no relation 'country-capitol'.*did you mean country-capital"):
        load_data("relations", relation="country-capitol")
    with pytest.raises(ValueError, match="relations has no root: it takes relation, template, shots"):
        load_data("relations", relation="country-capital", root=tmp_path)
