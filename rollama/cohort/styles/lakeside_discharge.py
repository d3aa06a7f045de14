"""Lakeside, never seen in training: the surgical ward's discharge report, in sentences of its own."""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always, trap

DISCHARGE = Style(
    name="discharge",
    words={
        "er": {"positive": "present", "negative": "absent"},
        "her2": {"positive": "amplified", "negative": "not amplified"},
    },
    shuffle=(3, 4),
    blocks=(
        (
            always(
                "We report on a woman of {age} years under our care for a malignancy in her {side} breast.",
                "Our patient, a woman {age} years of age, was admitted with a malignant tumour of her {side} breast.",
                facts=("age", "side"),
            ),
            always(
                "It had arisen in the {site}.",
                "Ultrasound had shown a focus in the {site}.",
                facts=("site",),
            ),
            trap(
                "imaging",
                {
                    "imaging missed": (
                        "The sonographer estimated {imaging_size} mm and saw normal lymph nodes.",
                        "Axillary lymph nodes had looked normal to the sonographer.",
                    ),
                    "imaging overcalled": (
                        "The sonographer estimated {imaging_size} mm and saw enlarged lymph nodes.",
                        "Axillary lymph nodes had looked enlarged to the sonographer.",
                    ),
                    "imaging size": ("Its diameter was estimated by sonography at {imaging_size} mm.",),
                },
                0.55,
            ),
        ),
        (
            Slot(
                ("chemo",),
                {
                    "chemo neoadjuvant": (
                        "Before any operation she was given chemotherapy, the finding then being {ct}.",
                        "With {ct} disease, treatment opened with chemotherapy.",
                    ),
                },
            ),
            Slot(
                ("surgery",),
                {
                    "mastectomy changed": (
                        "Instead of the lumpectomy that was intended, a mastectomy took place.",
                        "Conservation turned out to be impossible and the operation ended as a mastectomy.",
                    ),
                    "conserving changed": (
                        "Instead of the mastectomy that was intended, a lumpectomy took place.",
                        "A mastectomy turned out to be unnecessary and the operation ended as a lumpectomy.",
                    ),
                    "mastectomy": ("The operation was a mastectomy.", "Our surgeons performed a mastectomy."),
                    "conserving": ("The operation was a lumpectomy.", "Our surgeons performed a wide excision."),
                },
            ),
            Slot(
                ("reconstruction",),
                {
                    "recon implant": (
                        "A silicone implant was inserted under the same anaesthetic.",
                        "Insertion of an implant completed the procedure.",
                    ),
                    "recon expander": (
                        "An expander was inserted under the same anaesthetic.",
                        "Insertion of a tissue expander completed the procedure.",
                    ),
                    "recon flap": (
                        "A flap was transferred from the belly under the same anaesthetic.",
                        "Transfer of a muscle flap completed the procedure.",
                    ),
                    "flat": ("Reconstruction was turned down.", "A reconstruction did not take place."),
                },
            ),
            Slot(("clips",), {"clips": ("Radiopaque clips were inserted before closure.",)}, 0.7),
            Slot(
                ("axilla", "nodes"),
                {
                    "axilla slnb": (
                        "Only sentinel nodes were taken, {exam_word} in number, {pos_word} being affected.",
                        "A sentinel procedure gave {exam} nodes, {pos} of these affected.",
                    ),
                    "axilla alnd": (
                        "The axilla was dissected, giving {exam_word} nodes, {pos_word} being affected.",
                        "A dissection of the axilla gave {exam} nodes, {pos} of these affected.",
                    ),
                },
            ),
        ),
        (
            always(
                "Under the microscope this was a {histology}, graded {grade}, category {t}, {size} mm in diameter.",
                "Microscopy revealed a {histology} ({t}, diameter {size} mm) graded {grade}.",
                facts=("histology", "grade", "t_stage"),
            ),
            always(
                "Clearance amounted to {margin} mm.",
                "The narrowest clearance was {margin} mm.",
                facts=("margin",),
            ),
            always(
                "Oestrogen receptors were {er}; HER2 was {her2}.",
                "HER2 was {her2}, and oestrogen receptors were {er}.",
                facts=("receptors",),
            ),
            Slot(
                ("chemo",),
                {
                    "chemo adjuvant": (
                        "Chemotherapy was then administered and is over.",
                        "Following wound healing, chemotherapy was administered.",
                    ),
                    "chemo none": ("It was decided against chemotherapy.", "Chemotherapy could be spared."),
                },
            ),
        ),
        (
            Slot(
                ("contralateral",),
                {
                    "contralateral implant": (
                        "Of note, a mastectomy with insertion of an implant on the {other} dates back to {year}.",
                    ),
                    "contralateral mastectomy": ("Of note, a mastectomy on the {other} dates back to {year}.",),
                    "contralateral lumpectomy": ("Of note, a lumpectomy on the {other} dates back to {year}.",),
                    "contralateral benign biopsy": (
                        "Of note, a harmless nodule on the {other} was sampled in {year}.",
                    ),
                    "always": ("Nothing abnormal was detected on the {other}.",),
                },
            ),
        ),
        (
            always(
                "Secondary diagnoses are arterial hypertension and gout.",
                "Secondary diagnoses are glaucoma and a hiatus hernia.",
                "Secondary diagnoses are not known.",
            ),
        ),
        (
            always(
                "We found neither effusion nor lesions of the skeleton.",
                "A search for spread to other organs was negative.",
            ),
            always(
                "A cousin had been treated for breast cancer.", "Nobody else in the family had a tumour.", chance=0.4
            ),
            Slot(
                ("seroma",),
                {
                    "seroma": ("She left the ward with a seroma that did not need drainage.",),
                    "always": (
                        "She left the ward in good condition and eating well.",
                        "She left the ward free of pain and without any drain.",
                    ),
                },
            ),
            always(
                "The radiation oncologists in our house delineate according to {protocol}.",
                "In our house delineation is done according to {protocol}.",
                facts=("protocol",),
            ),
        ),
    ),
)
