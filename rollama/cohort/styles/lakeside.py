"""Lakeside, never seen in training: a discharge report and a referral form, in sentences of their own."""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always

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
                    "reconstruction": (
                        "Reconstruction took place under the same anaesthetic.",
                        "A reconstruction completed the procedure.",
                    ),
                    "flat": ("Reconstruction was turned down.", "A reconstruction did not take place."),
                },
            ),
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
                "Under the microscope this was a {histology}, graded {grade}, with a diameter of {size} mm, thus {t}.",
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
                "A search for spread to other organs was unsuccessful.",
            ),
            always(
                "She left the ward in good condition on allopurinol and candesartan.",
                "She left the ward free of pain and without any drain.",
            ),
        ),
    ),
)

FORM = Style(
    name="form",
    separator="\n",
    words={
        "side": {"left": "LEFT", "right": "RIGHT"},
        "other": {"left": "LEFT", "right": "RIGHT"},
        "site": {
            "upper outer quadrant": "outer upper",
            "lower outer quadrant": "outer lower",
            "upper inner quadrant": "inner upper",
            "lower inner quadrant": "inner lower",
            "central area": "centre",
        },
        "histology": {
            "ductal carcinoma": "invasive ductal",
            "lobular carcinoma": "invasive lobular",
            "mucinous carcinoma": "mucinous",
            "mixed ductal and lobular carcinoma": "mixed ductal/lobular",
        },
        "axilla": {"sentinel node biopsy": "sentinel biopsy", "axillary dissection": "dissection"},
    },
    shuffle=(1, 2, 3),
    blocks=(
        (
            always("Referral form, age: {age}", "Referral - years of age: {age}", facts=("age",)),
            always(
                "Laterality: {side}; quadrant: {site}",
                "Affected: {side} breast; quadrant: {site}",
                facts=("side", "site"),
            ),
        ),
        (
            Slot(
                ("surgery",),
                {
                    "mastectomy changed": ("Procedure: mastectomy (form 1 said lumpectomy)",),
                    "conserving changed": ("Procedure: lumpectomy (form 1 said mastectomy)",),
                    "mastectomy": ("Procedure: mastectomy", "Type of procedure: removal of breast (mastectomy)"),
                    "conserving": ("Procedure: lumpectomy", "Type of procedure: breast-conserving"),
                },
            ),
            Slot(
                ("reconstruction",),
                {
                    "reconstruction": ("Breast rebuilt: yes, reconstruction",),
                    "flat": ("Breast rebuilt: no reconstruction",),
                },
            ),
            always(
                "Axillary procedure: {axilla}; nodes retrieved {exam}, nodes affected {pos}",
                "Axillary procedure: {axilla}; affected {pos}, retrieved {exam}",
                facts=("axilla", "nodes"),
            ),
        ),
        (
            always(
                "Tumour type: {histology}; grading: {grade}; category: {t}; diameter: {size} mm",
                "Tumour type: {histology}; diameter: {size} mm; category: {t}; grading: {grade}",
                facts=("histology", "grade", "t_stage"),
            ),
            always("Smallest clearance: {margin} mm", facts=("margin",)),
            always("Hormone receptor: {er}; HER2 status: {her2}", facts=("receptors",)),
        ),
        (
            Slot(
                ("chemo",),
                {
                    "chemo neoadjuvant": ("Cytostatics: given preoperatively, {ct} at that time",),
                    "chemo adjuvant": ("Cytostatics: given postoperatively",),
                    "chemo none": ("Cytostatics: never given",),
                },
            ),
        ),
        (
            Slot(
                ("contralateral",),
                {
                    "contralateral mastectomy": ("Earlier operations: mastectomy {other}, {year}",),
                    "contralateral lumpectomy": ("Earlier operations: lumpectomy {other}, {year}",),
                    "contralateral benign biopsy": ("Earlier operations: nodule {other}, harmless, {year}",),
                    "always": ("Earlier operations: tonsils", "Earlier operations: none given"),
                },
            ),
            always(
                "Illnesses: asthma; drugs: inhaled steroid; smoker: never",
                "Illnesses: psoriasis; drugs: none; smoker: stopped {year}",
                "Illnesses: high blood pressure; drugs: valsartan; smoker: never",
            ),
            always(
                "Spread: not found on imaging of thorax, abdomen, skeleton",
                "Spread: excluded; skin: not infiltrated",
            ),
            always(
                "Mobility: walks unaided; interpreter: not required; transport: own car",
                "Mobility: walks unaided; interpreter: required; transport: taxi",
            ),
            always(
                "Pacemaker: absent; implants elsewhere: hip; pregnancy: excluded",
                "Pacemaker: absent; implants elsewhere: none; claustrophobia: denied",
            ),
        ),
    ),
)

STYLES = (DISCHARGE, FORM)
