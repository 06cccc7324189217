"""Class names of the single-label, two-dimensional MedMNIST sets, in the order of their label numbers.

The npz files hold numbers only. Names after the ``medmnist`` package 3.0.2 (Yang et al., "MedMNIST v2", 2023),
shortened where they are very long.
"""

from __future__ import annotations

_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right",
    "pancreas", "spleen",
)  # fmt: skip

CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast", "immature granulocyte", "lymphocyte", "monocyte", "neutrophil",
        "platelet",
    ),
    "breastmnist": ("malignant", "normal or benign"),
    "dermamnist": (
        "actinic keratosis or intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesion",
        "dermatofibroma", "melanoma", "melanocytic nevus", "vascular lesion",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
    "pathmnist": (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
        "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
    ),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("grade 0", "grade 1", "grade 2", "grade 3", "grade 4"),
    "tissuemnist": (
        "collecting duct or connecting tubule", "distal convoluted tubule", "glomerular endothelial cells",
        "interstitial endothelial cells", "leukocytes", "podocytes", "proximal tubule segments", "thick ascending limb",
    ),
}  # fmt: skip
