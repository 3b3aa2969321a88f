"""Published models we know of: where their weights are, under which terms, and whether they run here.

Facts from the models' own pages, as last looked at in November 2026. None of their weights are in this
repository, and none are fetched unless a user adds a model. Imports no torch.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lesionbrush.errors import UnknownModel
from lesionbrush.systems import list_systems

UNSTATED = "unstated"
"""The value of a licence that the publishers do not name."""


class KnownModel(BaseModel):
    """One published model. size_bytes and sha256 are None where the publishers give none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    title: str
    makes: str = Field(description="what it makes, in one sentence")
    weights_license: str = Field(description='an SPDX-like name, or "unstated"')
    code_license: str
    license_remark: str = ""
    page: str = Field(pattern=r"^https://", description="where a person gets the weights")
    file: str = Field(description="the file's published name")
    files: int = Field(1, ge=1, description="how many files its weights come in")
    size_bytes: int | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    reference: str
    architecture: str | None = Field(
        default=None, description="what its weights are checked against; None: cannot be added yet"
    )
    reason: str = Field(description="why it does not run here, or what to know before using it")

    @model_validator(mode="after")
    def _unstated_is_said(self) -> KnownModel:
        if self.weights_license == UNSTATED and not self.license_remark:
            raise ValueError(f"{self.name}: an unstated licence needs a remark")
        return self

    @field_validator("architecture")
    @classmethod
    def _is_a_system(cls, value: str | None) -> str | None:
        known = [name for name, system in list_systems().items() if system.published]
        if value is not None and value not in known:
            raise ValueError(f"system {value!r} takes no published weights; {', '.join(known)} do")
        return value

    @property
    def addable(self) -> bool:
        return self.architecture is not None

    @property
    def options(self) -> str:
        """How its files are given to `models add`."""
        return " ".join(["--from FILE"] * self.files)

    def terms(self) -> str:
        """The licence as a user should read it before accepting."""
        about = f"Weights: {self.weights_license}. Code: {self.code_license}."
        return f"{about} {self.license_remark} See {self.page}".replace("  ", " ")


_DRIVE = "https://drive.google.com/drive/folders/"
_HUB = "https://huggingface.co/"
_UNSTATED_GPL = (
    "The publishers state no licence for the weights: without one, no right to pass them on is given. Their "
    "code has an MIT file but descends from Med-DDPM, which is GPL-3.0; none of it is in LesionBrush."
)
_OWN_NETWORK = "its network is none of MONAI's, and LesionBrush has no code for it yet"
_IMPROVED = "https://github.com/openai/improved-diffusion"
_OWN_CHECKPOINT = (
    "The paper's authors give no weights: a checkpoint that somebody trained with that program, whose terms "
    "hold."
)
_IN_CLASSES = (
    "for slices of 256 pixels in the window -160 to 240 HU, with the number of a class over 16, AMOS's 15 "
    "organs and body, as second channel, and learned variance; the network is large: hours on a CPU"
)
_AS_TRAINED = (
    "HU are scaled slab by slab, as in its training; which way round the publishers' files lie is nowhere "
    "written, and was taken to be as SimpleITK stores a CT. The network is large: minutes to hours on a CPU"
)
_FOR_A_BERT = (
    "nobody here has tried it on the real weights: layers and names are those of the released program, the "
    "place of the patient and the levels of lobes are read off its files. A text needs the authors' BERT "
    "(LESIONBRUSH_BERT); tiles of 72 voxels are made where the program makes all of 256 at once; sampling "
    "begins at step 987 of 1000 and visits levels even in log-SNR; HU end at 600. Its 770 million weights "
    "want a GPU"
)

_SEMANTIC = KnownModel(
    name="semantic_published",
    title="Semantic CT, of improved-diffusion",
    makes="Organs of a layout enlarged, moved or taken out, slice by slice.",
    weights_license=UNSTATED,
    code_license="MIT",
    license_remark=_OWN_CHECKPOINT,
    page=_IMPROVED,
    file="ema_0.9999_150000.pt",
    reference="Zhuang et al. 2023, by the program of Nichol & Dhariwal 2021",
    architecture="semantic",
    reason=_IN_CLASSES,
)

CATALOGUE: tuple[KnownModel, ...] = (
    KnownModel(
        name="lung_ddpm_published",
        title="Lung-DDPM",
        makes="A whole chest CT at 128³ from a lung and nodule layout and a reference.",
        weights_license=UNSTATED,
        code_license="MIT",
        license_remark=_UNSTATED_GPL,
        page=f"{_DRIVE}1IiWUsGyU-4aNN6-PscrcWijBNdjH9Qhz",
        file="Lung-DDPM-LIDC-IDRI-100000-steps.pt",
        reference="Jiang et al. 2025, arXiv:2502.15204",
        architecture="lung_ddpm",
        reason=_AS_TRAINED,
    ),
    KnownModel(
        name="lung_ddpm_plus_published",
        title="Lung-DDPM+",
        makes="A 64³ box of chest CT around a nodule mask.",
        weights_license=UNSTATED,
        code_license="MIT",
        license_remark=_UNSTATED_GPL,
        page=f"{_DRIVE}1fV2RodOtF96WhcCF4wFc8DumL79Hup4-",
        file="checkpoints/best_model.pt",
        reference="Jiang et al. 2025, arXiv:2508.09327",
        architecture="lung_ddpm_plus",
        reason=_AS_TRAINED,
    ),
    _SEMANTIC,
    _SEMANTIC.model_copy(
        update={
            "name": "semantic_whole_published",
            "title": "Semantic CT, whole, of improved-diffusion",
            "makes": "A whole abdominal CT from a layout, slice by slice.",
            "architecture": "semantic_whole",
        }
    ),
    KnownModel(
        name="nv_generate_ct",
        title="NV-Generate-CT (MAISI-v2, rectified flow)",
        makes="A whole CT from a map of 132 organs.",
        weights_license="NVIDIA Open Model License",
        code_license="Apache-2.0",
        page=f"{_HUB}nvidia/NV-Generate-CT",
        file="models/diff_unet_3d_rflow-ct.pt",
        reference="arXiv:2508.05772",
        reason="it needs three networks (5 GB) and an organ map, and makes a new CT instead of editing one",
    ),
    KnownModel(
        name="maisi_ct_ddpm",
        title="MAISI, DDPM",
        makes="A whole CT from a map of 132 organs, in 1000 steps.",
        weights_license="NVIDIA Open Model License",
        code_license="Apache-2.0",
        page=f"{_HUB}nvidia/NV-Generate-CT",
        file="(several)",
        reference="MAISI",
        reason="as nv_generate_ct, and its publishers name one to sixteen minutes on a data-centre GPU",
    ),
    KnownModel(
        name="nod_maisi",
        title="NodMAISI",
        makes="A whole chest CT with nodules from a map of organs and nodules.",
        weights_license="CC BY-NC-ND 3.0",
        code_license="see the page",
        page=f"{_HUB}ft42/NoMAISI",
        file="(on request)",
        reference="arXiv:2512.18038",
        reason="its weights are given on request only, and it makes a new CT instead of editing one",
    ),
    KnownModel(
        name="lefusion_lidc",
        title="LeFusion, LIDC",
        makes="A lung nodule in a box of 32 x 64 x 64 mm, with control of its texture.",
        weights_license="Apache-2.0",
        code_license="Apache-2.0",
        page=f"{_HUB}YuheLiuu/LeFusion_Pretrained_model",
        file="lidc.pt",
        reference="arXiv:2403.14066",
        reason=_OWN_NETWORK,
    ),
    KnownModel(
        name="lesion_diffusion",
        title="LesionDiffusion",
        makes="Lesions of 14 types in 8 organs, by attributes.",
        weights_license="MIT",
        code_license="MIT",
        license_remark="Stated for the safetensors on this page; for the original files nothing is.",
        page=f"{_HUB}MedMLX/lesiondiffusion-mlx",
        file="(several)",
        reference="arXiv:2503.00741",
        reason=_OWN_NETWORK,
    ),
    KnownModel(
        name="difftumor",
        title="DiffTumor",
        makes="Tumours of liver, pancreas and kidney in a box of 96 mm.",
        weights_license="CC BY-NC-ND 4.0",
        code_license="CC BY-NC-ND 4.0",
        license_remark="The weights' page is tagged apache-2.0, which contradicts the repository.",
        page=f"{_HUB}MrGiovanni/DiffTumor",
        file="(several)",
        reference="CVPR 2024",
        reason=f"{_OWN_NETWORK}, and its licence forbids modified versions",
    ),
    KnownModel(
        name="med_ddpm_brain",
        title="Med-DDPM of the brain",
        makes="A brain MRI at 128³ from a segmentation.",
        weights_license=UNSTATED,
        code_license="GPL-3.0",
        license_remark="The publishers state no licence for the weights.",
        page="https://github.com/mobaidoctor/med-ddpm",
        file="(see the page)",
        reference="Med-DDPM",
        reason="it makes MRI, not CT",
    ),
    KnownModel(
        name="medsyn_published",
        title="MedSyn",
        makes="A whole chest CT from a report, with lobes, airways and vessels.",
        weights_license="CC BY-NC 4.0",
        code_license="CC BY-NC 4.0",
        license_remark="The weights are given on application, and are for no commercial use.",
        page="https://github.com/batmanlab/MedSyn",
        file="a pytorch_model.bin of each network, low and high resolution",
        files=2,
        reference="Xu et al. 2024, arXiv:2310.03559",
        architecture="medsyn_released",
        reason=_FOR_A_BERT,
    ),
    KnownModel(
        name="generate_ct",
        title="GenerateCT",
        makes="A whole chest CT from a text.",
        weights_license="CC BY 4.0",
        code_license="CC BY 4.0",
        license_remark="Said in the README; there is no licence file.",
        page=f"{_HUB}generatect/GenerateCT",
        file="(several)",
        reference="GenerateCT",
        reason="it takes no mask and no reference CT, and its networks are none of MONAI's",
    ),
    KnownModel(
        name="wdm_3d",
        title="WDM-3D, LIDC 128",
        makes="A chest CT at 128³ from nothing.",
        weights_license="MIT",
        code_license="MIT",
        page=f"{_HUB}pfriedri/wdm-3d",
        file="(see the page)",
        reference="WDM-3D",
        reason="it is unconditional, and works on wavelets with a network of its own",
    ),
    KnownModel(
        name="free_tumor",
        title="FreeTumor",
        makes="Tumours under a mask, in one pass.",
        weights_license="Apache-2.0",
        code_license="Apache-2.0",
        page=f"{_HUB}Luffy503/FreeTumor",
        file="(see the page)",
        reference="FreeTumor",
        reason="it is an adversarial network, not a diffusion model, and none of MONAI's",
    ),
    KnownModel(
        name="texto_morph",
        title="TextoMorph",
        makes="Tumours from a description.",
        weights_license="see the page",
        code_license="CC BY-NC-ND",
        page=f"{_HUB}Alena-Xinran/DescriptiveTumor",
        file="(see the page)",
        reference="TextoMorph",
        reason=f"{_OWN_NETWORK}, and its code's licence forbids modified versions",
    ),
    KnownModel(
        name="medicalnet_resnet50",
        title="MedicalNet ResNet-50",
        makes="Features of a volume, for FID and MMD as the papers measure them; no CT.",
        weights_license="MIT",
        code_license="MIT",
        page=f"{_HUB}TencentMedicalNet/MedicalNet-Resnet50",
        file="resnet_50.pth",
        reference="MedicalNet",
        reason="`evaluate` does not use it yet; MONAI's network needs dilated layers to give its features",
    ),
    KnownModel(
        name="lung_nodule_ct_detection",
        title="Lung nodule detection (RetinaNet)",
        makes="Boxes around nodules, to see whether a detector finds what was painted; no CT.",
        weights_license="Apache-2.0",
        code_license="Apache-2.0",
        page="https://github.com/Project-MONAI/model-zoo",
        file="(a MONAI bundle)",
        reference="MONAI model zoo",
        reason="`evaluate` does not use it yet",
    ),
)


def find_known(name: str) -> KnownModel:
    """One published model. UnknownModel lists those that can be added."""
    for known in CATALOGUE:
        if known.name == name:
            return known
    addable = ", ".join(known.name for known in CATALOGUE if known.addable)
    raise UnknownModel(f"no published model is called {name!r}; those that can be added are: {addable}")
