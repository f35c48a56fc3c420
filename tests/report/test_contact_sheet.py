from dataclasses import replace
from io import BytesIO

import numpy as np
from PIL import Image

from taskvec.data.scenes import Scenes
from taskvec.prompts import draw_prompts
from taskvec.report.contact_sheet import contact_sheet
from taskvec.tasks import SEGMENTATION


def test_pairs_are_shown_as_the_model_is_given_them() -> None:
    prompts = draw_prompts(Scenes(count=48), SEGMENTATION, 5, 32, seed=0)
    ignored = np.zeros((5, 32, 32), bool)
    ignored[0, :4] = True
    sheet = np.asarray(Image.open(BytesIO(contact_sheet(replace(prompts, query_ignored=ignored)))))
    assert sheet.shape == (2 * 104 + 8, 4 * 208 + 8, 3)
    shown = sheet[8:104:3, 8:104:3]
    assert np.array_equal(shown, prompts.query_input[0])
    output = sheet[8:104:3, 105:201:3]
    assert np.array_equal(output[4:], prompts.query_output[0, 4:])
    assert (output[:4] == [0xD5, 0x5E, 0x00]).all()


def test_an_image_is_shown_once() -> None:
    prompts = draw_prompts(Scenes(count=48), SEGMENTATION, 5, 32, seed=0).take(np.array([3, 3, 3]))
    assert Image.open(BytesIO(contact_sheet(prompts))).size == (208 + 8, 104 + 8)
