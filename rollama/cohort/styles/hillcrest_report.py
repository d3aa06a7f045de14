"""Hillcrest's pathology-first report."""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always, trap

REPORT = Style(
    name="report",
    words={"er": {"positive": "90 %", "negative": "0 %"}, "her2": {"positive": "3+", "negative": "0"}},
    shuffle=(2, 3),
    blocks=(
        (
            always(
                "Specimen shows {histology}, histological grade {grade}, largest extent {size} mm, stage {t}.",
                "Diagnosis: {t} {histology}, differentiation grade {grade}, extent {size} mm.",
                facts=("histology", "grade", "t_stage"),
            ),
            trap(
                "first margin",
                {"conserving": ("A first excision had reached the ink and was followed by a wider one.",)},
                0.2,
            ),
            always(
                "Distance to the inked surface is {margin} mm.",
                "Minimum distance from ink: {margin} mm.",
                facts=("margin",),
            ),
            Slot(
                ("nodes", "axilla"),
                {
                    "axilla slnb": (
                        "Sentinel nodes examined: {exam}; with metastasis: {pos}.",
                        "Metastasis in {pos_word} of {exam} sentinel nodes, no further axillary surgery.",
                    ),
                    "axilla alnd": (
                        "Axillary clearance: {exam} nodes found; with metastasis: {pos}.",
                        "Metastasis in {pos_word} of {exam} nodes from axillary clearance.",
                    ),
                },
            ),
            always(
                "Immunohistochemistry: oestrogen receptor {er}, HER2 score {her2}.",
                "ER {er} of nuclei, HER2 score {her2}.",
                facts=("receptors",),
            ),
            always("No lymphovascular invasion.", "Vessel invasion absent, necrosis absent.", chance=0.7),
            trap(
                "imaging",
                {
                    "imaging missed": (
                        "Imaging ({imaging_size} mm) had called the axilla free, which pathology refutes.",
                        "Clinical data had mentioned inconspicuous axillary nodes.",
                    ),
                    "imaging overcalled": (
                        "Imaging ({imaging_size} mm) had called the axilla involved, which pathology refutes.",
                        "Clinical data had mentioned suspicious axillary nodes.",
                    ),
                    "imaging size": ("Clinical data had mentioned a lesion of {imaging_size} mm.",),
                },
                0.55,
            ),
        ),
        (
            always(
                "The patient is {age} years old; the cancer was on the {side}, {site}.",
                "Clinical data: age {age}, {side} breast, {site}.",
                facts=("age", "side", "site"),
            ),
            Slot(
                ("surgery",),
                {
                    "mastectomy changed": (
                        "Excision was followed by mastectomy, which replaced the original idea of conservation.",
                        "Intended as lumpectomy; performed: mastectomy.",
                    ),
                    "conserving changed": (
                        "Mastectomy had been considered before the tumour was excised with the breast conserved.",
                        "Intended as mastectomy; performed: lumpectomy.",
                    ),
                    "mastectomy": ("Performed: mastectomy.", "The breast has been ablated."),
                    "conserving": ("Performed: lumpectomy.", "The breast has been conserved."),
                },
            ),
            Slot(
                ("reconstruction",),
                {
                    "recon implant": (
                        "An implant was placed in front of the muscle.",
                        "Reconstructed with an implant behind the muscle.",
                    ),
                    "recon expander": (
                        "An expander was placed, to be exchanged next year.",
                        "Reconstruction has begun with a tissue expander.",
                    ),
                    "recon flap": (
                        "A reconstruction with a flap of own tissue was added.",
                        "Reconstructed with a free flap from the abdomen.",
                    ),
                    "flat": ("The site was closed flat.", "Reconstruction is not intended."),
                },
            ),
            Slot(("clips",), {"clips": ("Metal clips mark the excision site.",)}, 0.7),
        ),
        (
            Slot(
                ("chemo",),
                {
                    "chemo neoadjuvant": (
                        "Chemotherapy preceded surgery; initial category {ct}.",
                        "Primary systemic therapy was given for a {ct} tumour.",
                    ),
                    "chemo adjuvant": (
                        "Chemotherapy followed surgery.",
                        "Six cycles of chemotherapy were given postoperatively.",
                    ),
                    "chemo none": ("Chemotherapy was omitted.", "No cytotoxic treatment was given."),
                },
            ),
        ),
        (
            Slot(
                ("contralateral",),
                {
                    "contralateral implant": ("Opposite breast: ablated in {year}, implant since then.",),
                    "contralateral mastectomy": ("Opposite breast: ablated in {year}.",),
                    "contralateral lumpectomy": ("Opposite breast: tumour excised {years} years before.",),
                    "contralateral benign biopsy": ("Opposite breast: core biopsy in {year}, no malignancy.",),
                    "always": ("Opposite breast: normal on imaging.",),
                },
            ),
            always(
                "Further disorders: atrial fibrillation, anticoagulated.",
                "Further disorders: rheumatoid arthritis on methotrexate.",
                "Further disorders: depression, on sertraline.",
                "Further disorders: none.",
            ),
        ),
        (
            always(
                "Distant metastases were excluded by CT and scintigraphy.",
                "Staging revealed no metastasis.",
            ),
            Slot(("seroma",), {"seroma": ("A seroma of the excision site persists.",)}, 0.8),
            Slot(
                (),
                {
                    "older": ("Karnofsky index 80, uses a walking frame.", "Menopause was at 51; two pregnancies."),
                    "always": (
                        "Karnofsky index 90, no complaints.",
                        "Arm mobility is unrestricted, and the arm is not swollen.",
                        "Family history: grandmother with breast cancer at 80.",
                    ),
                },
            ),
            always(
                "Contouring standard of the department: {protocol}.",
                "The department follows {protocol} in contouring.",
                facts=("protocol",),
            ),
            always("The patient agrees to a consultation.", "Port catheter removed.", chance=0.6),
        ),
    ),
)
