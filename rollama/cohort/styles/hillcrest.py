"""Hillcrest: a pathology-first report, and minutes of the tumour board."""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always

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
                    "reconstruction": (
                        "A reconstruction with own tissue was added.",
                        "Reconstructed with an implant behind the muscle.",
                    ),
                    "flat": ("The site was closed flat.", "Reconstruction is not intended."),
                },
            ),
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
            always(
                "Karnofsky index 90, no complaints.",
                "Arm mobility is unrestricted, and no swelling was noted.",
                "Menopause was at 51; two pregnancies.",
            ),
            always("The patient agrees to a consultation.", "Port catheter removed.", chance=0.6),
        ),
    ),
)

BOARD = Style(
    name="board",
    separator="\n",
    words={
        "side": {"left": "L", "right": "R"},
        "site": {
            "upper outer quadrant": "upper outer",
            "lower outer quadrant": "lower outer",
            "upper inner quadrant": "upper inner",
            "lower inner quadrant": "lower inner",
            "central area": "subareolar",
        },
        "histology": {
            "ductal carcinoma": "NST (ductal)",
            "lobular carcinoma": "lobular",
            "mucinous carcinoma": "mucinous",
            "mixed ductal and lobular carcinoma": "mixed ductal-lobular",
        },
        "er": {"positive": "ER+", "negative": "ER-"},
        "her2": {"positive": "HER2+", "negative": "HER2-"},
    },
    shuffle=(2, 3),
    blocks=(
        (
            always(
                "Board minutes, case presented by surgery: Ca mammae {side}, {site}, woman of {age}.",
                "Tumour board. Mrs X, age {age}, Ca mammae {side} ({site}).",
                facts=("age", "side", "site"),
            ),
        ),
        (
            Slot(
                ("surgery", "axilla"),
                {
                    "mastectomy changed": (
                        "Surgeon: went from tumorectomy plan to ablation, plus {axilla}.",
                        "Surgeon reports ablation and {axilla}; conservation had been planned.",
                    ),
                    "conserving changed": (
                        "Surgeon: went from ablation plan to tumorectomy, plus {axilla}.",
                        "Surgeon reports tumorectomy and {axilla}; ablation had been planned.",
                    ),
                    "mastectomy": ("Surgeon: ablation plus {axilla}.", "Surgeon reports ablation and {axilla}."),
                    "conserving": ("Surgeon: tumorectomy plus {axilla}.", "Surgeon reports tumorectomy and {axilla}."),
                },
            ),
            Slot(
                ("reconstruction",),
                {
                    "reconstruction": ("Plastic surgery: reconstruction finished, healed.",),
                    "flat": ("Plastic surgery: patient wants none.",),
                },
            ),
        ),
        (
            always(
                "Pathologist: {histology}, G {grade}, {t} ({cm} cm).",
                "Pathologist reports {t}, {cm} cm, {histology}, G {grade}.",
                facts=("histology", "grade", "t_stage"),
            ),
            Slot(
                ("nodes",),
                {
                    "nodes none": ("Nodes {exam} removed, all negative.", "Nodes: 0 out of {exam}."),
                    "nodes some": ("Nodes {exam} removed, {pos} positive.", "Nodes: {pos} out of {exam}."),
                },
            ),
            always("R0, {margin} mm to the edge.", "Edge {margin} mm, R0.", facts=("margin",)),
            always("{er}, {her2}, Ki-67 20 %.", "Biology {er} {her2}.", facts=("receptors",)),
        ),
        (
            Slot(
                ("chemo",),
                {
                    "chemo neoadjuvant": ("Oncologist: had primary chemo, {ct} at start.",),
                    "chemo adjuvant": ("Oncologist: postoperative chemo now complete.",),
                    "chemo none": ("Oncologist: sees no place for chemo.",),
                },
            ),
            always(
                "Endocrine therapy and bone health to be checked by the family doctor.",
                "Cardiology: echo normal, no objection.",
                "Geriatrics: fit, no frailty.",
                "Genetics: BRCA1/2 not mutated.",
            ),
        ),
        (
            Slot(
                ("contralateral",),
                {
                    "contralateral mastectomy": ("Past: ablation {other} {year}.",),
                    "contralateral lumpectomy": ("Past: tumorectomy {other} {year}, no relapse.",),
                    "contralateral benign biopsy": ("Past: harmless biopsy {other} {year}.",),
                    "always": ("Past: hysterectomy.", "Past: gallstones.", "Past: nothing relevant."),
                },
            ),
            always(
                "Radiologist: MRI without further foci, no suspicious contralateral finding.",
                "Radiologist: no liver or bone lesion, old rib break.",
            ),
            always(
                "Medication: bisoprolol, pantoprazole; performance status 0; non-smoker since {year}.",
                "Medication: none; performance status 1; lives alone, family nearby.",
                "Medication: insulin; performance status 0; {children} children.",
            ),
            always(
                "Question to radiation oncology: what do you propose?",
                "To be seen by radiation oncology within {weeks} weeks.",
            ),
        ),
    ),
)

STYLES = (REPORT, BOARD)
