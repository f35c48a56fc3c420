"""What the paper prints, as it prints it: the one place for its numbers."""

from collections.abc import Iterable, Mapping

TASKS: tuple[str, ...] = ("segmentation", "low_light", "colorization", "inpainting")  # in the order of its tables
Printed = Mapping[str, tuple[str, ...]]  # by method: of TASKS


def _by_split(text: str) -> Printed:
    """Of lines of a method and its numbers, one for each split of each task."""
    return {method: tuple(numbers) for method, *numbers in (line.split() for line in text.strip().splitlines())}


# Taskness, silhouette and Davies-Bouldin score of the best, random and worst heads of the published model:
# (26, 3), (11, 3), (4, 3), (18, 16), (2, 16), (2, 12).
TABLE_2 = (
    ("2.1663", "0.3583", "1.2744"),
    ("1.0827", "0.2692", "1.5567"),
    ("0.2329", "0.0708", "4.1062"),
    ("0.1259", "0.0369", "4.3256"),
    ("0.0221", "-0.0518", "21.8265"),
    ("0.0264", "-0.0334", "13.5982"),
)
TABLE_3: Printed = {  # mean and standard deviation over splits; Table 1 has seven of these rows
    "one_shot": ("0.338 ± 0.033", "0.685 ± 0.032", "0.618 ± 0.027", "0.550 ± 0.042"),
    "random": ("0.170 ± 0.061", "3.000 ± 0.967", "3.025 ± 1.190", "2.350 ± 0.955"),
    "greedy_random_layers": ("0.090 ± 0.007", "1.825 ± 0.043", "0.568 ± 0.022", "0.875 ± 0.100"),
    "top": ("0.150 ± 0.023", "4.875 ± 0.228", "4.250 ± 0.269", "3.900 ± 0.141"),
    "cma": ("0.230 ± 0.012", "0.825 ± 0.043", "0.895 ± 0.063", "1.750 ± 0.112"),
    "cma_multi": ("0.150 ± 0.017", "1.400 ± 0.122", "1.130 ± 0.075", "1.225 ± 0.083"),
    "greedy": ("0.320 ± 0.021", "0.600 ± 0.025", "0.555 ± 0.025", "0.580 ± 0.047"),
    "greedy_multi": ("0.323 ± 0.019", "0.515 ± 0.032", "0.568 ± 0.029", "0.605 ± 0.036"),
    "vectors_multi": ("0.325 ± 0.026", "0.492 ± 0.025", "0.502 ± 0.036", "0.558 ± 0.022"),
    "vectors": ("0.353 ± 0.028", "0.458 ± 0.032", "0.453 ± 0.036", "0.480 ± 0.022"),
}
TABLE_4: Printed = {  # 0.338 for task-specific quadrants at segmentation is the paper's, where Table 3 has 0.353
    "vectors_token": ("0.350 ± 0.025", "0.495 ± 0.036", "0.453 ± 0.036", "0.485 ± 0.018"),
    "vectors": ("0.338 ± 0.023", "0.458 ± 0.032", "0.465 ± 0.036", "0.480 ± 0.022"),
    "vectors_head": ("0.245 ± 0.015", "0.942 ± 0.070", "0.857 ± 0.069", "0.885 ± 0.067"),
    "vectors_multi_token": ("0.318 ± 0.023", "0.510 ± 0.028", "0.510 ± 0.039", "0.565 ± 0.025"),
    "vectors_multi": ("0.325 ± 0.026", "0.492 ± 0.025", "0.502 ± 0.036", "0.558 ± 0.022"),
    "vectors_multi_head": ("0.253 ± 0.013", "1.105 ± 0.064", "0.998 ± 0.069", "0.980 ± 0.082"),
}
TABLE_5: Printed = {  # segmentation, split by split
    "vectors_encoder": ("0.09", "0.14", "0.14", "0.13"),
    "vectors_decoder": ("0.32", "0.34", "0.29", "0.29"),
    "vectors": ("0.35", "0.35", "0.31", "0.29"),
}
TABLE_6 = _by_split(  # the four splits of each task; of the last row the first two tasks only are known here
    """
    one_shot 0.35 0.38 0.33 0.29 0.70 0.66 0.73 0.65 0.59 0.62 0.66 0.60 0.49 0.55 0.61 0.55
    random 0.08 0.25 0.16 0.19 4.30 2.40 3.50 1.80 2.10 4.10 4.30 1.60 3.80 1.20 1.90 2.50
    greedy_random_layers 0.09 0.10 0.09 0.08 1.80 1.80 1.90 1.80 0.54 0.57 0.60 0.56 0.72 0.89 1.00 0.89
    top 0.11 0.17 0.16 0.16 4.50 5.00 5.10 4.90 3.80 4.40 4.30 4.50 3.70 3.90 4.10 3.90
    cma 0.23 0.25 0.22 0.22 0.76 0.83 0.88 0.83 0.79 0.92 0.96 0.91 1.6 1.8 1.9 1.7
    cma_multi 0.18 0.14 0.14 0.14 1.2 1.5 1.5 1.4 1.02 1.2 1.2 1.1 1.1 1.3 1.3 1.2
    greedy 0.33 0.35 0.30 0.30 0.56 0.61 0.63 0.60 0.52 0.56 0.59 0.55 0.52 0.56 0.65 0.59
    greedy_multi 0.33 0.35 0.31 0.30 0.47 0.52 0.56 0.51 0.53 0.57 0.61 0.56 0.55 0.61 0.65 0.61
    vectors_multi 0.35 0.35 0.31 0.29 0.46 0.49 0.53 0.49 0.45 0.51 0.55 0.50 0.53 0.56 0.59 0.55
    vectors 0.38 0.38 0.33 0.32 0.41 0.46 0.50 0.46
    """
)
TABLE_7 = _by_split(  # as Table 6
    """
    vectors_token 0.38 0.37 0.33 0.32 0.44 0.50 0.54 0.50 0.40 0.46 0.50 0.45 0.46 0.49 0.51 0.48
    vectors 0.36 0.36 0.32 0.31 0.41 0.46 0.50 0.46 0.41 0.47 0.51 0.47 0.45 0.49 0.51 0.47
    vectors_head 0.24 0.27 0.23 0.24 0.83 0.97 1.02 0.95 0.75 0.88 0.94 0.86 0.78 0.92 0.96 0.88
    vectors_multi_token 0.34 0.34 0.30 0.29 0.47 0.51 0.55 0.51 0.45 0.51 0.56 0.52 0.53 0.57 0.60 0.56
    vectors_multi 0.35 0.35 0.31 0.29 0.46 0.49 0.53 0.49 0.45 0.51 0.55 0.50 0.53 0.56 0.59 0.55
    vectors_multi_head 0.26 0.27 0.24 0.24 1.01 1.12 1.19 1.10
    """
)
TABLE_9: Printed = {  # which lists in-painting before colorization, and 0.6 for one-shot low light
    "one_shot": ("0.338", "0.6", "0.618", "0.55"),
    "vectors": ("0.353", "0.458", "0.453", "0.480"),
    "one_shot_vectors": ("0.346", "0.496", "0.490", "0.454"),
}
TABLE_8: Mapping[str, Mapping[str, str]] = {  # top-1 of Llama-2-7B, by relation
    "query_only": {"landmark-country": "0.0", "present-past": "0.084", "country-capital": "0.047"},
    "few": {"landmark-country": "0.868", "present-past": "0.95", "country-capital": "0.92"},
    "one_shot": {"landmark-country": "0.88", "present-past": "0.967", "country-capital": "0.951"},
    "cma": {"landmark-country": "0.691", "present-past": "0.88", "country-capital": "0.825"},
    "reinforce": {"landmark-country": "0.8629", "present-past": "0.983", "country-capital": "0.9524"},
}


def means(printed: Iterable[str]) -> tuple[float, ...]:
    """The means of what is printed, such as 0.338 of 0.338 ± 0.033."""
    return tuple(float(text.split()[0]) for text in printed)
